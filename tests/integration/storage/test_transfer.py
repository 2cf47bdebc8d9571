"""Whole folders to and from buckets: names no disk can hold, repairs, markers, round trips."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Corrupt, Fault, Status
from job.errors import AccessError, DatasetError, InputMissingError, TemporaryError
from job.storage.gcs import GcsStore
from job.storage.mirror import Mirror
from job.storage.transfer import pull, push


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_pushed_folder_comes_back_equal(place, tmp_path: Path):
    for name, data in {"a/1.bin": b"1", "a/2 ü.bin": bytes(100_000), "b.txt": b"", "done.json": b"{}"}.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(data)
    pushed = push(tmp_path / "from", place.store, prefix="run", last=["done.json"])
    assert (pushed.num_objects, pushed.num_sent) == (4, 4)
    place.store.delete("run/done.json")
    place.store.upload(tmp_path / "from" / "done.json", "run/done.json")
    pull(place.store, tmp_path / "to")
    assert files(tmp_path / "to" / "run") == files(tmp_path / "from")


def test_pull_repairs_a_file_of_the_right_size(place, tmp_path: Path):
    place.put("a.jpg", b"right")
    place.put("b.jpg", b"other")
    pull(place.store, tmp_path / "to")
    (tmp_path / "to" / "a.jpg").write_bytes(b"wrong")
    assert pull(place.store, tmp_path / "to").num_fetched == 1
    assert files(tmp_path / "to") == {"a.jpg": b"right", "b.jpg": b"other"}


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
def test_without_its_marker_a_right_file_is_still_recognised(request: pytest.FixtureRequest, tmp_path: Path, scheme):
    store = _seeded(request, scheme, {"a.jpg": b"right"})
    pull(store, tmp_path)
    (tmp_path / ".pulled.json").unlink()
    assert pull(store, tmp_path).num_fetched == 0


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
def test_push_again_sends_only_what_differs(request: pytest.FixtureRequest, tmp_path: Path, scheme):
    store = _seeded(request, scheme, {})
    for name in ("a", "b", "report.json"):
        (tmp_path / name).write_bytes(name.encode())
    assert push(tmp_path, store, last=["report.json"]).num_sent == 3
    assert push(tmp_path, store, last=["report.json"]).num_sent == 0
    (tmp_path / "a").write_bytes(b"A")
    assert push(tmp_path, store, last=["report.json"]).num_sent == 2


@pytest.mark.parametrize("name", ["../evil.jpg", "/abs.jpg", "a/../../evil.jpg", "a\0b", "..\\evil.jpg", "a//b.jpg"])
def test_a_gcs_object_that_climbs_out_is_refused_and_named(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, name: str
):
    gcs_server.put("photos", "set/good.jpg", b"x")
    gcs_server.put("photos", f"set/{name}", b"x")
    with pytest.raises(DatasetError) as caught:
        pull(gcs_store, tmp_path / "to")
    assert repr(name) in caught.value.message
    assert caught.value.exit_code == 65
    assert files(tmp_path) == {}


@pytest.mark.parametrize("name", ["../evil.jpg", "a//b.jpg", "..\\evil.jpg"])
def test_an_s3_object_that_climbs_out_is_refused(request: pytest.FixtureRequest, tmp_path: Path, name: str):
    store = _seeded(request, "s3", {"good.jpg": b"x", name: b"x"})
    with pytest.raises(DatasetError, match=r"evil|b\.jpg"):
        pull(store, tmp_path / "to")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
def test_folder_placeholders_are_left_out(request: pytest.FixtureRequest, tmp_path: Path, scheme):
    store = _seeded(request, scheme, {"": b"", "cats/": b"", "cats/1.jpg": b"x"})
    pull(store, tmp_path)
    assert files(tmp_path) == {"cats/1.jpg": b"x"}


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
def test_an_object_that_is_file_and_folder_is_refused(request: pytest.FixtureRequest, tmp_path: Path, scheme):
    store = _seeded(request, scheme, {"a": b"x", "a/b": b"y"})
    with pytest.raises(DatasetError, match=r"both an object 'a' and an object 'a/b'"):
        pull(store, tmp_path)


def test_an_empty_prefix_says_where_it_looked(gcs_store: GcsStore, tmp_path: Path):
    with pytest.raises(InputMissingError, match="nothing is below gs://photos/set/") as caught:
        pull(gcs_store, tmp_path)
    assert caught.value.next_step


def test_an_object_that_never_comes_right_fails_the_pull_and_no_other(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path
):
    for number in range(20):
        gcs_server.put("photos", f"set/{number:02d}.jpg", b"content")

    def two_are_bad(method: str, target: str, headers: object) -> Fault | None:
        return Corrupt() if "alt=media" in target and ("03.jpg" in target or "07.jpg" in target) else None

    gcs_server.fault = two_are_bad
    with pytest.raises(TemporaryError, match=r"pulling from gs://photos/set: 2 of 20 failed \(18 are done\)") as caught:
        pull(gcs_store, tmp_path)
    assert "03.jpg" in caught.value.message
    assert "07.jpg" in caught.value.message
    assert set(files(tmp_path)) == {f"{number:02d}.jpg" for number in range(20) if number not in (3, 7)}
    assert not (tmp_path / ".pulled.json").exists()
    gcs_server.fault = None
    assert pull(gcs_store, tmp_path).num_fetched == 2


def test_no_permission_stops_a_pull_at_once(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    for number in range(300):
        gcs_server.put("photos", f"set/{number}.jpg", b"x")
    seen = []

    def refuse(method: str, target: str, headers: object) -> Fault | None:
        if "alt=media" not in target:
            return None
        seen.append(target)
        return Status(403)

    gcs_server.fault = refuse
    with pytest.raises(AccessError):
        pull(gcs_store, tmp_path)
    assert len(seen) < 100


def test_a_growing_log_reaches_the_bucket(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    with Mirror(tmp_path, gcs_store, "logs", every_s=3600) as mirror:
        with (tmp_path / "events").open("ab", buffering=0) as log:
            for length in (1, 2, 3):
                log.write(b"x")
                assert mirror.now() == 1
                assert gcs_server.get("photos", "set/logs/events") == b"x" * length
        gcs_server.fault = lambda method, target, headers: Status(403)
        (tmp_path / "events").write_bytes(b"more")
    assert isinstance(mirror.last_error, AccessError)


def _seeded(request: pytest.FixtureRequest, scheme: str, objects: dict[str, bytes]):
    """Returns a store with these objects, put there behind its back."""
    if scheme == "gcs":
        server = request.getfixturevalue("gcs_server")
        for name, data in objects.items():
            server.put("photos", f"set/{name}", data)
        return request.getfixturevalue("gcs_store")
    put = request.getfixturevalue("s3_put")
    for name, data in objects.items():
        put(name, data)
    return request.getfixturevalue("s3_store")
