"""What a bucket's network does to a transfer: every fault ends in the right content or a typed error."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import BreakUpload, Corrupt, Fault, NoHash, Reset, Stall, Status, Truncate
from job.errors import AccessError, ConfigError, DatasetError, InputMissingError, TemporaryError
from job.storage import ABSENT, VersionConflictError, at
from job.storage.gcs import GcsStore
from job.storage.retry import Policy
from job.storage.transfer import pull

DATA = bytes(range(256)) * 12_000


class Faults:
    """Spoils the first `times` requests that match, and counts all that do."""

    def __init__(self, fault: Fault, *, times: int, method: str = "GET", part: str = "alt=media") -> None:
        self._fault, self._times, self._method, self._part = fault, times, method, part
        self._lock = threading.Lock()
        self.num_seen = 0

    def __call__(self, method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method != self._method or self._part not in target:
            return None
        with self._lock:
            self.num_seen += 1
            return self._fault if self.num_seen <= self._times else None


PASSING: list[Fault] = [
    *(Status(code) for code in (408, 429, 500, 502, 503, 504)),
    Reset(),
    Reset(after_bytes=1_100_000),
    Truncate(1_100_000),
    Truncate(1_100_000, is_consistent=True),
    Corrupt(0),
    Corrupt(-1),
]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_download_survives_seven_faults(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, fault: Fault):
    gcs_server.put("photos", "set/a.jpg", DATA)
    (info,) = gcs_store.list()
    gcs_server.fault = faults = Faults(fault, times=7)
    gcs_store.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == DATA
    assert (faults.num_seen, gcs_store.num_retries) == (8, 7)


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_the_eighth_fault_is_a_temporary_error_and_leaves_nothing(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, fault: Fault
):
    gcs_server.put("photos", "set/a.jpg", DATA)
    (info,) = gcs_store.list()
    gcs_server.fault = Faults(fault, times=8)
    with pytest.raises(TemporaryError, match=r"gs://photos/set/a\.jpg failed in 8 tries over .* s; the last") as caught:
        gcs_store.download(info, tmp_path / "to" / "a.jpg")
    assert caught.value.exit_code == 75
    assert "start the job again" in caught.value.next_step
    assert caught.value.__cause__ is not None
    assert list((tmp_path / "to").iterdir()) == []


def test_a_failed_download_keeps_the_file_that_was_there(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    gcs_server.put("photos", "set/a.jpg", DATA)
    (info,) = gcs_store.list()
    (tmp_path / "a.jpg").write_bytes(b"older")
    gcs_server.fault = Faults(Corrupt(), times=8)
    with pytest.raises(TemporaryError, match="came damaged"):
        gcs_store.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"), [(401, AccessError, 77), (403, AccessError, 77), (404, InputMissingError, 66)]
)
def test_what_does_not_pass_is_not_tried_again(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, code: int, kind: type[Exception], exit_code: int
):
    gcs_server.put("photos", "set/a.jpg", DATA)
    (info,) = gcs_store.list()
    gcs_server.fault = faults = Faults(Status(code), times=99, part="")
    with pytest.raises(kind, match=r"gs://photos/set/a\.jpg") as caught:
        gcs_store.download(info, tmp_path / "a.jpg")
    assert caught.value.exit_code == exit_code
    assert caught.value.next_step
    assert faults.num_seen <= 2, "the download, and for 404 one look whether the object is still there"


def test_no_permission_to_list_names_the_role(gcs_server: ObjectStore, gcs_store: GcsStore):
    gcs_server.fault = Faults(Status(403), times=1, part="")
    with pytest.raises(AccessError, match=r"no permission for gs://photos/set") as caught:
        list(gcs_store.list())
    assert "roles/storage.objectUser" in caught.value.next_step


def test_a_listing_survives_a_fault_on_its_second_page(gcs_server: ObjectStore, gcs_store: GcsStore):
    for number in range(1500):
        gcs_server.put("photos", f"set/{number:04d}", b"")
    gcs_server.fault = faults = Faults(Status(503), times=3, part="pageToken")
    assert len({info.name for info in gcs_store.list()}) == 1500
    assert faults.num_seen == 4


def test_a_silent_server_is_left_after_the_progress_time_out(gcs_server: ObjectStore, tmp_path: Path):
    gcs_server.put("photos", "set/a.jpg", DATA)
    store = GcsStore("gs://photos/set", "photos", "set", policy=Policy(first_wait_s=0.0, progress_timeout_s=0.2))
    (info,) = store.list()
    gcs_server.fault = Faults(Stall(60.0, after_bytes=1000), times=1)
    store.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == DATA


@pytest.mark.parametrize("fault", [Corrupt(), Truncate(3, is_consistent=True), Reset(), NoHash()], ids=str)
def test_a_marker_is_read_right(gcs_server: ObjectStore, gcs_store: GcsStore, fault: Fault):
    gcs_server.put("photos", "set/done.json", b'{"done": true}')
    gcs_server.fault = Faults(fault, times=2)
    assert gcs_store.read("done.json") == b'{"done": true}'


@pytest.mark.parametrize("if_version", [None, ABSENT])
@pytest.mark.parametrize("fault", [Status(503), Reset(), Truncate(20, is_consistent=True)], ids=str)
def test_a_write_whose_answer_is_lost_is_done(
    gcs_server: ObjectStore, gcs_store: GcsStore, fault: Fault, if_version: str | None
):
    gcs_server.fault = Faults(fault, times=1, method="POST", part="upload")
    info = gcs_store.write("lease.json", b"mine", if_version=if_version)
    assert gcs_server.get("photos", "set/lease.json") == b"mine"
    gcs_server.fault = None
    assert gcs_store.stat("lease.json") == info


def test_a_lost_answer_does_not_hide_that_another_won(gcs_server: ObjectStore, gcs_store: GcsStore):
    def another_writes_first(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method == "POST":
            gcs_server.put("photos", "set/lease.json", b"theirs")
            gcs_server.fault = None
            return Status(503)
        return None

    gcs_server.fault = another_writes_first
    with pytest.raises(VersionConflictError, match=r"gs://photos/set/lease\.json"):
        gcs_store.write("lease.json", b"mine", if_version=ABSENT)
    assert gcs_server.get("photos", "set/lease.json") == b"theirs"


@pytest.mark.parametrize("what", ["write", "upload", "resumable upload"])
def test_a_writer_that_hung_does_not_undo_a_newer_object(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, what: str
):
    gcs_server.put("photos", "set/status.json", b"older")

    def another_writes_meanwhile(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if method in ("POST", "PUT"):
            gcs_server.fault = None
            gcs_server.put("photos", "set/status.json", b"newer")
            return Status(503)
        return None

    (tmp_path / "in").write_bytes(b"stale" * (2_000_000 if what == "resumable upload" else 1))
    gcs_server.fault = another_writes_meanwhile
    with pytest.raises(VersionConflictError, match=r"gs://photos/set/status\.json was written by somebody else"):
        if what == "write":
            gcs_store.write("status.json", b"stale")
        else:
            gcs_store.upload(tmp_path / "in", "status.json")
    assert gcs_server.get("photos", "set/status.json") == b"newer"


def test_a_late_twin_of_a_write_does_not_undo_the_next_one(gcs_server: ObjectStore, gcs_store: GcsStore):
    seen = []

    def note(method: str, target: str, headers: Mapping[str, str]) -> None:
        if method == "POST":
            seen.append(target)

    gcs_server.fault = note
    gcs_store.write("status.json", b"1")
    gcs_store.write("status.json", b"2")
    assert "ifGenerationMatch=0" in seen[0]
    assert "ifGenerationMatch=" in seen[1]
    assert "ifGenerationMatch=0" not in seen[1]


UPLOADS: list[Callable[[], Faults]] = [
    lambda: Faults(Status(503), times=3, method="POST", part="upload"),
    lambda: Faults(Reset(), times=2, method="POST", part="upload"),
    lambda: Faults(BreakUpload(1_000_000), times=2, method="POST", part="upload"),
    lambda: Faults(Truncate(10, is_consistent=True), times=1, method="POST", part="uploadType=multipart"),
]


@pytest.mark.parametrize("number", range(len(UPLOADS)))
def test_a_small_upload_survives(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, number: int):
    (tmp_path / "in").write_bytes(DATA)
    gcs_server.fault = UPLOADS[number]()
    info = gcs_store.upload(tmp_path / "in", "a.bin")
    assert gcs_server.get("photos", "set/a.bin") == DATA
    gcs_server.fault = None
    assert gcs_store.stat("a.bin") == info


@pytest.mark.parametrize(
    "fault", [Status(404), Status(410), Truncate(10, is_consistent=True)], ids=["404", "410", "half an answer"]
)
def test_a_resumable_upload_survives_a_lost_session(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, fault: Fault
):
    data = DATA * 4
    (tmp_path / "in").write_bytes(data)
    gcs_server.fault = faults = Faults(fault, times=1, method="PUT", part="upload_id")
    gcs_store.upload(tmp_path / "in", "big.bin")
    assert faults.num_seen >= 1, "the file was sent in one request"
    assert gcs_server.get("photos", "set/big.bin") == data


def test_an_equal_object_is_not_sent_again(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    (tmp_path / "in").write_bytes(DATA)
    first = gcs_store.upload(tmp_path / "in", "a.bin")
    gcs_server.fault = faults = Faults(Status(500), times=9, method="POST", part="upload")
    assert gcs_store.upload(tmp_path / "in", "a.bin") == first
    assert faults.num_seen == 0


def test_a_delete_whose_answer_is_lost_is_done(gcs_server: ObjectStore, gcs_store: GcsStore):
    gcs_server.put("photos", "set/a", b"x")
    gcs_server.fault = Faults(Reset(), times=1, method="DELETE", part="")
    gcs_store.delete("a")
    assert gcs_server.names("photos", "set/") == []


def test_an_object_stored_compressed_is_refused(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    import gzip

    from google.cloud import storage

    client = storage.Client(project="test")
    blob = client.bucket("photos").blob("set/labels.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"image,label\n" * 100), content_type="text/csv")
    client.close()
    (info,) = gcs_store.list()
    with pytest.raises(DatasetError, match=r"set/labels\.csv is stored with Content-Encoding: gzip"):
        gcs_store.download(info, tmp_path / "labels.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_whole_pull_under_mixed_faults_misses_nothing(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    expected = {f"class_{n % 3}/{n:03d}.jpg": bytes([n]) * (1000 + n) for n in range(200)}
    for name, data in expected.items():
        gcs_server.put("photos", f"set/{name}", data)
    kinds = [Status(503), Status(429), Reset(), Truncate(500), Truncate(500, is_consistent=True), Corrupt(7), NoHash()]
    lock, seen = threading.Lock(), 0

    def every_fifth(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        nonlocal seen
        with lock:
            seen += 1
            return kinds[seen // 5 % len(kinds)] if seen % 5 == 0 and "alt=media" in target else None

    gcs_server.fault = every_fifth
    pulled = pull(gcs_store, tmp_path)
    there = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.jpg")}
    assert there == expected
    assert pulled.num_fetched == 200
    assert pulled.num_retries > 20


def test_without_credentials_the_error_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS")
    }
    environment |= {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true"}
    code = (
        "from job.errors import AccessError\nfrom job.storage import at\n"
        "try:\n    list(at('gs://some-bucket/x').list())\n"
        "except AccessError as error:\n    print(error.exit_code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("77 no usable Google credentials for gs://some-bucket/x"), done.stderr
    assert "gcloud auth application-default login" in done.stdout


def test_an_emulator_without_a_scheme_is_a_config_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:9000")
    with pytest.raises(ConfigError, match="without a scheme") as caught:
        list(at("gs://bucket").list())
    assert "http://localhost:9000" in caught.value.next_step
