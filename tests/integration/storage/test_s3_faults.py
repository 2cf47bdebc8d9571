"""What a network does to s3://, against the project's own server: it speaks S3's XML and, unlike moto, has faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Corrupt, Fault, Reset, Status, Truncate
from job.errors import AccessError, TemporaryError
from job.storage.retry import Policy
from job.storage.s3 import S3Store
from job.storage.store import VersionConflictError

DATA = bytes(range(256)) * 12_000

FAULTS: list[Fault] = [
    Status(503),
    Status(429),
    Reset(),
    Reset(after_bytes=1_100_000),
    Truncate(1_100_000),
    Truncate(1_100_000, is_consistent=True),
    Corrupt(0),
    Corrupt(-1),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as started:
        started.put("photos", "set/a.jpg", DATA)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
        yield started


@pytest.fixture
def store(server: ObjectStore) -> S3Store:
    return S3Store("s3://photos/set", "photos", "set", policy=Policy(tries=3, first_wait_s=0.0, max_wait_s=0.0))


class Downloads:
    """Spoils the first `times` downloads and counts all."""

    def __init__(self, fault: Fault, times: int) -> None:
        self._fault, self._times, self.num_seen = fault, times, 0

    def __call__(self, method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method != "GET" or "a.jpg" not in target:
            return None
        self.num_seen += 1
        return self._fault if self.num_seen <= self._times else None


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_download_survives_two_faults(server: ObjectStore, store: S3Store, tmp_path: Path, fault: Fault):
    (info,) = store.list()
    server.fault = downloads = Downloads(fault, times=2)
    store.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == DATA
    assert downloads.num_seen == 3


FURTHER = (Truncate(1_100_000), Reset(after_bytes=1_100_000))
"""Broken bodies are gone on with by range: each time it gets further, so these are no faults for ever."""


def test_a_broken_body_goes_on_where_it_was(server: ObjectStore, store: S3Store, tmp_path: Path):
    (info,) = store.list()
    server.fault = downloads = Downloads(FURTHER[0], times=99)
    store.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == DATA
    assert downloads.num_seen == 3


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in FURTHER], ids=str)
def test_faults_for_ever_are_a_temporary_error_and_leave_nothing(
    server: ObjectStore, store: S3Store, tmp_path: Path, fault: Fault
):
    (info,) = store.list()
    server.fault = Downloads(fault, times=99)
    with pytest.raises(TemporaryError, match=r"s3://photos/set/a\.jpg failed in 3 tries"):
        store.download(info, tmp_path / "to" / "a.jpg")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_refused_download_is_not_tried_again(server: ObjectStore, store: S3Store, tmp_path: Path):
    (info,) = store.list()
    server.fault = downloads = Downloads(Status(403), times=99)
    with pytest.raises(AccessError, match=r"no permission for s3://photos/set/a\.jpg") as caught:
        store.download(info, tmp_path / "a.jpg")
    assert "AWS_ACCESS_KEY_ID" in caught.value.next_step
    assert downloads.num_seen == 1


def test_a_conditional_write_whose_answer_is_lost_is_done(server: ObjectStore, store: S3Store):
    def lose_one(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method != "PUT":
            return None
        server.fault = None
        return Reset()

    server.fault = lose_one
    store.write("lease.json", b"mine", if_version="absent")
    assert server.get("photos", "set/lease.json") == b"mine"


@pytest.mark.parametrize("what", ["write", "upload"])
def test_a_writer_that_hung_does_not_undo_a_newer_object(
    server: ObjectStore, store: S3Store, tmp_path: Path, what: str
):
    def another_writes_meanwhile(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method == "PUT":
            server.fault = None
            server.put("photos", "set/a.jpg", b"newer")
            return Status(503)
        return None

    (tmp_path / "in").write_bytes(b"stale")
    server.fault = another_writes_meanwhile
    with pytest.raises(VersionConflictError, match=r"s3://photos/set/a\.jpg was written by somebody else"):
        if what == "write":
            store.write("a.jpg", b"stale")
        else:
            store.upload(tmp_path / "in", "a.jpg")
    assert server.get("photos", "set/a.jpg") == b"newer"
