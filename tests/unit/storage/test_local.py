"""A folder as a store: what a disk adds to the promises of every store."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from job.errors import AccessError, DatasetError, InputMissingError, TemporaryError
from job.storage import disk
from job.storage.local import LocalStore
from tests import rights

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(f"{tmp_path}/set/", tmp_path / "set")


def test_uri_has_no_trailing_slash(store: LocalStore, tmp_path: Path):
    assert store.uri == f"{tmp_path}/set"


def test_write_makes_the_folder_and_leaves_no_temporary_file(store: LocalStore, tmp_path: Path):
    info = store.write("a/b.txt", b"x")
    assert store.stat("a/b.txt") == info
    assert [info.name for info in store.list()] == ["a/b.txt"]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\0b", "a/../../x"])
def test_no_method_leaves_the_folder(store: LocalStore, tmp_path: Path, name: str):
    (tmp_path / "in").write_bytes(b"x")
    for call in (
        lambda: store.read(name),
        lambda: store.stat(name),
        lambda: store.write(name, b"x"),
        lambda: store.upload(tmp_path / "in", name),
        lambda: store.delete(name),
    ):
        with pytest.raises(DatasetError):
            call()
    assert not (tmp_path / "x").exists()


def test_a_missing_folder_is_a_missing_input_but_an_empty_one_is_not(store: LocalStore, tmp_path: Path):
    with pytest.raises(InputMissingError, match="set does not exist"):
        list(store.list())
    (tmp_path / "set").mkdir()
    assert list(store.list()) == []


def test_a_single_file_is_itself(tmp_path: Path):
    (tmp_path / "data.csv").write_bytes(b"x")
    store = LocalStore(str(tmp_path / "data.csv"), tmp_path / "data.csv")
    assert list(store.list()) == []
    assert store.read("") == b"x"
    found = store.stat("")
    assert found is not None
    assert found.size_bytes == 1


def test_listing_follows_links_inside_and_says_which_it_leaves_out(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store.write("a/1", b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"x")
    root = tmp_path / "set"
    (root / "inside").symlink_to(root / "a")
    (root / "away").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "secret")
    (root / "a" / "circle").symlink_to(root)
    (root / "broken").symlink_to(root / "nothing")
    with caplog.at_level(logging.WARNING):
        listed = [info.name for info in store.list()]
    assert listed[:2] == ["a/1", "a/circle/inside/1"] or listed == ["a/1", "inside/1"]
    assert not any(name.startswith(("away", "file", "broken")) for name in listed)
    assert sorted(record.args[0] for record in caplog.records) == [str(root / "away"), str(root / "file")]


def test_two_quick_writes_of_one_size_are_two_versions(store: LocalStore):
    versions = [store.write("a", bytes([number])).version for number in range(50)]
    assert len(set(versions)) == 50


def test_a_folder_without_permission_is_an_access_error(tmp_path: Path):
    (tmp_path / "set").mkdir(mode=0o500)
    program = f"""
from pathlib import Path
from job.errors import AccessError
from job.storage.local import LocalStore
try:
    LocalStore({str(tmp_path)!r}, Path({str(tmp_path)!r}) / "set").write("a", b"x")
except AccessError as error:
    print(error.message)
"""
    command = rights.bound(sys.executable, "-c", program)
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"no permission for {tmp_path}/a")
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "exit_code", "says"),
    [
        (13, AccessError, 77, "no permission"),
        (30, AccessError, 77, "no permission"),
        (28, TemporaryError, 75, "MB are free"),
        (2, InputMissingError, 66, "does not exist"),
        (36, DatasetError, 65, "too long"),
        (5, TemporaryError, 75, "cannot be used"),
    ],
)
def test_an_operating_system_error_becomes_ours(
    tmp_path: Path, number: int, kind: type[Exception], exit_code: int, says: str
):
    with pytest.raises(kind, match=says) as caught, disk.border("photos/a.jpg", tmp_path / "not" / "yet"):
        raise OSError(number, os.strerror(number))
    assert "photos/a.jpg" in caught.value.message
    assert caught.value.exit_code == exit_code
    assert caught.value.next_step
    assert isinstance(caught.value.__cause__, OSError)


def test_a_full_disk_is_a_temporary_error_and_leaves_nothing(tmp_path: Path):
    def write() -> None:
        with disk.border("a", tmp_path), disk.replacing(tmp_path / "a") as temp:
            temp.write_bytes(b"half")
            with open("/dev/full", "wb", buffering=0) as full:
                full.write(b"the other half")

    with pytest.raises(TemporaryError, match="the disk is full while writing"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_refused(store: LocalStore, tmp_path: Path):
    listed = store.write("a", b"one")
    (tmp_path / "set" / "a").write_bytes(b"two")
    with pytest.raises(TemporaryError, match="changed while it was being read"):
        store.download(listed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_longer_than_a_disk_allows_is_a_dataset_error(store: LocalStore):
    store.write("a", b"x")
    with pytest.raises(DatasetError, match="too long"):
        store.read("n" * 300)


def test_no_lock_file_stays_in_what_the_user_asked_for(store: LocalStore, tmp_path: Path):
    (tmp_path / "in").write_bytes(b"x")
    store.write("report.json", b"x")
    store.upload(tmp_path / "in", "export/1/saved_model.pb")
    lease = store.write("lease.json", b"1", if_version="absent")
    store.write("lease.json", b"2", if_version=lease.version)
    store.delete("lease.json")
    files = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert files == {"report.json", "export/1/saved_model.pb"}


def test_a_lock_whose_file_its_holder_removed_is_asked_for_again(tmp_path: Path):
    inside, order = threading.Lock(), []

    def work(number: int) -> None:
        for _ in range(20):
            with disk.locked(tmp_path):
                assert inside.acquire(blocking=False), "two hold the lock"
                order.append(number)
                inside.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(order) == 160
    assert list(tmp_path.iterdir()) == []


def test_deleting_below_a_file_is_fine(store: LocalStore):
    store.write("a", b"x")
    store.delete("a/b")
    assert store.read("a") == b"x"
