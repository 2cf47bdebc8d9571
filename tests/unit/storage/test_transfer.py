"""Whole folders, on a disk: complete or refused, and safe to run again. Buckets: tests/integration/storage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import DatasetError, InputMissingError, StoppedError, TemporaryError
from job.storage import ObjectInfo
from job.storage.local import LocalStore
from job.storage.transfer import described, pull, push


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg", "labels.csv"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(name.encode())
    return tmp_path / "source"


@pytest.fixture
def store(source: Path) -> LocalStore:
    return LocalStore(str(source), source)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_pull_copies_everything_and_writes_the_marker_last(store: LocalStore, source: Path, tmp_path: Path):
    seen = []
    pulled = pull(store, tmp_path / "to", progress=lambda done, total: seen.append((done, total)))
    assert files(tmp_path / "to") == files(source)
    assert (pulled.num_objects, pulled.num_fetched, pulled.num_bytes) == (4, 4, 40)
    assert seen == sorted(seen)
    assert seen[-1] == (4, 4), "the last count is always told"
    marker = json.loads((tmp_path / "to" / ".pulled.json").read_text())
    assert (marker["digest"], marker["num_objects"]) == (pulled.digest, 4)
    assert not (tmp_path / "to" / ".pulling.json").exists()


def test_pull_again_fetches_nothing(store: LocalStore, tmp_path: Path):
    first = pull(store, tmp_path / "to")
    again = pull(store, tmp_path / "to")
    assert again.num_fetched == 0
    assert again.digest == first.digest


def test_described_objects_are_pulled_and_the_folder_keeps_what_it_holds(
    store: LocalStore, source: Path, tmp_path: Path
):
    pull(store, tmp_path / "to", names=["cats/1.jpg"])
    objects = described(store, ["labels.csv", "dogs/1.jpg"])
    assert [info.name for info in objects] == ["dogs/1.jpg", "labels.csv"]
    pulled = pull(store, tmp_path / "to", objects=objects[:1])
    assert (pulled.num_objects, pulled.num_fetched) == (1, 1)
    assert set(files(tmp_path / "to")) == {"cats/1.jpg", "dogs/1.jpg"}
    with pytest.raises(InputMissingError, match="1 of 2 files are not below .*gone.jpg"):
        described(store, ["labels.csv", "gone.jpg"])


@pytest.mark.parametrize("damage", ["removed", "shortened", "same size", "touched"])
def test_pull_again_repairs_exactly_the_damaged_file(store: LocalStore, source: Path, tmp_path: Path, damage: str):
    pull(store, tmp_path / "to")
    victim = tmp_path / "to" / "cats" / "1.jpg"
    if damage == "removed":
        victim.unlink()
    elif damage == "touched":
        os.utime(victim, ns=(1, 1))
    else:
        victim.write_bytes(b"" if damage == "shortened" else b"X" * victim.stat().st_size)
    assert pull(store, tmp_path / "to").num_fetched == 1
    assert files(tmp_path / "to") == files(source)


def test_pull_follows_changes_of_the_source(store: LocalStore, source: Path, tmp_path: Path):
    first = pull(store, tmp_path / "to")
    (tmp_path / "to" / "mine.txt").write_bytes(b"not from the store")
    store.write("cats/1.jpg", b"new")
    store.write("birds/1.jpg", b"bird")
    (source / "dogs" / "1.jpg").unlink()
    second = pull(store, tmp_path / "to")
    assert second.num_fetched == 2
    assert second.digest != first.digest
    assert files(tmp_path / "to") == files(source) | {"mine.txt": b"not from the store"}
    assert not (tmp_path / "to" / "dogs").exists(), "an empty folder would count as a class"


def test_pull_of_names_brings_only_them_and_removes_nothing(store: LocalStore, tmp_path: Path):
    assert pull(store, tmp_path / "to", names=["labels.csv", "labels.csv"]).num_objects == 1
    pull(store, tmp_path / "to", names=["cats/1.jpg"])
    assert set(files(tmp_path / "to")) == {"labels.csv", "cats/1.jpg"}


def test_pull_of_a_missing_name_says_which(store: LocalStore, tmp_path: Path):
    with pytest.raises(InputMissingError, match=r"2 of 3 files are not below .*source/: cats/8\.jpg, cats/9\.jpg"):
        pull(store, tmp_path / "to", names=["cats/9.jpg", "cats/1.jpg", "cats/8.jpg"])


def test_pull_of_nothing_says_where_it_looked(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissingError, match=r"nothing is below .*empty/") as caught:
        pull(LocalStore(str(tmp_path / "empty"), tmp_path / "empty"), tmp_path / "to")
    assert caught.value.exit_code == 66
    assert not (tmp_path / "to" / ".pulled.json").exists()


def test_pull_of_a_single_file_says_that_it_is_one(source: Path, tmp_path: Path):
    with pytest.raises(InputMissingError, match="it is a single object"):
        pull(LocalStore(f"{source}/labels.csv", source / "labels.csv"), tmp_path / "to")


def test_a_stopped_pull_is_not_complete_and_goes_on_later(store: LocalStore, source: Path, tmp_path: Path):
    pull(store, tmp_path / "to")
    for number in range(100):
        (source / "cats" / f"more_{number}.jpg").write_bytes(b"x")

    def stop(done: int, total: int) -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        pull(store, tmp_path / "to", progress=stop)
    assert not (tmp_path / "to" / ".pulled.json").exists()
    assert not list((tmp_path / "to").rglob("*.part"))
    pull(store, tmp_path / "to")
    assert files(tmp_path / "to") == files(source)


def test_pull_removes_what_a_killed_one_left_half(store: LocalStore, source: Path, tmp_path: Path):
    (tmp_path / "to" / "cats").mkdir(parents=True)
    (tmp_path / "to" / "cats" / ".finetune-0011223344556677.part").write_bytes(b"half")
    pull(store, tmp_path / "to")
    assert not list((tmp_path / "to").rglob("*.part"))


def test_a_damaged_marker_is_not_believed(store: LocalStore, source: Path, tmp_path: Path):
    pull(store, tmp_path / "to")
    (tmp_path / "to" / ".pulled.json").write_text('{"files": {"a": 3}')
    pull(store, tmp_path / "to")
    assert files(tmp_path / "to") == files(source)


def test_a_folder_where_a_file_belongs_is_refused(store: LocalStore, tmp_path: Path):
    (tmp_path / "to" / "labels.csv").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"labels\.csv"):
        pull(store, tmp_path / "to")


class Vast(LocalStore):
    """A folder whose listing promises more than any disk holds."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield ObjectInfo("vast.bin", 1 << 60, "1")


def test_too_little_space_says_needed_and_free_before_the_first_byte(source: Path, tmp_path: Path):
    with pytest.raises(TemporaryError, match=r"needs 1,152,921,504,606\.8 MB more .* MB are free") as caught:
        pull(Vast(str(source), source), tmp_path / "to")
    assert caught.value.exit_code == 75
    assert not (tmp_path / "to" / "vast.bin").exists()


def test_push_sends_everything_and_the_last_ones_last(store: LocalStore, source: Path, tmp_path: Path):
    sent = []

    class Recording(LocalStore):
        def upload(self, source: Path, name: str) -> ObjectInfo:
            sent.append(name)
            return super().upload(source, name)

    target = Recording(str(tmp_path / "to"), tmp_path / "to")
    pushed = push(source, target, prefix="run/1", last=["dogs/1.jpg", "cats/1.jpg"])
    assert files(tmp_path / "to" / "run" / "1") == files(source)
    assert sent[-2:] == ["run/1/dogs/1.jpg", "run/1/cats/1.jpg"]
    assert (pushed.num_objects, pushed.num_sent) == (4, 4)


def test_push_takes_the_marker_away_while_something_changes(source: Path, tmp_path: Path):
    target = LocalStore(str(tmp_path / "to"), tmp_path / "to")
    push(source, target, last=["labels.csv"])

    class Failing(LocalStore):
        def upload(self, source: Path, name: str) -> ObjectInfo:
            raise TemporaryError(f"{name} failed")

    (source / "cats" / "1.jpg").write_bytes(b"changed")
    with pytest.raises(TemporaryError):
        push(source, Failing(str(tmp_path / "to"), tmp_path / "to"), last=["labels.csv"])
    assert target.stat("labels.csv") is None
    push(source, target, last=["labels.csv"])
    assert files(tmp_path / "to") == files(source)


def test_push_of_a_folder_without_its_marker_is_refused(source: Path, tmp_path: Path):
    with pytest.raises(InputMissingError, match=r"no 'report\.json'"):
        push(source, LocalStore(str(tmp_path / "to"), tmp_path / "to"), last=["report.json"])
    assert not (tmp_path / "to").exists()


def test_push_leaves_out_the_bookkeeping_of_a_pull(store: LocalStore, source: Path, tmp_path: Path):
    pull(store, tmp_path / "pulled")
    push(tmp_path / "pulled", LocalStore(str(tmp_path / "to"), tmp_path / "to"))
    assert [info.name for info in LocalStore("to", tmp_path / "to").list()] == sorted(files(source))
