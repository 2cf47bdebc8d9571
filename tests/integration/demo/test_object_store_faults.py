"""Each fault does to Google's client what it was measured to do there; without one nothing goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage import retry
from google.resumable_media import common

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import (
    BreakUpload,
    Corrupt,
    Fault,
    NoHash,
    Reset,
    Stall,
    Status,
    Truncate,
)

# Google's client drops a reply that it tries again without closing it (3.17, _media/requests/download.py).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

DATA = bytes(range(256)) * 4096  # 1 MiB
QUICK = retry.DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.01)


class Once:
    """A fault for the first request of a kind, none for the others. Remembers what it was asked."""

    def __init__(self, fault: Fault, method: str = "GET", containing: str = "") -> None:
        self._fault: Fault | None = fault
        self._method, self._containing = method, containing
        self._lock = threading.Lock()
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        with self._lock:
            self.asked.append((method, target, headers.get("range", "")))
            if method != self._method or self._containing not in target:
                return None
            fault, self._fault = self._fault, None
            return fault


@pytest.fixture
def blob(store: ObjectStore, client: storage.Client) -> storage.Blob:
    store.put("photos", "cat.jpg", DATA)
    return client.bucket("photos").blob("cat.jpg")


@pytest.mark.parametrize(
    "fault", [Status(503, retry_after_s=1), Status(429), Reset(), Reset(after_bytes=1000), Truncate(after_bytes=1000)]
)
def test_what_passes_is_tried_again_and_comes_right(
    store: ObjectStore, blob: storage.Blob, tmp_path: Path, fault: Fault
) -> None:
    store.fault = once = Once(fault)
    blob.download_to_filename(str(tmp_path / "cat.jpg"), retry=QUICK)
    assert (tmp_path / "cat.jpg").read_bytes() == DATA
    assert len(once.asked) == 2


@pytest.mark.parametrize("code", [400, 403, 404, 410, 501])
def test_what_does_not_pass_is_raised_at_once(store: ObjectStore, blob: storage.Blob, code: int) -> None:
    store.fault = once = Once(Status(code))
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        blob.download_as_bytes(retry=QUICK)
    assert caught.value.code == code
    assert len(once.asked) == 1


def test_a_status_carries_its_retry_after_and_reason(store: ObjectStore, blob: storage.Blob, call: Any) -> None:
    store.fault = Once(Status(503, retry_after_s=7))
    reply = call("GET", "/storage/v1/b/photos/o/cat.jpg")
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    assert reply.json["error"]["errors"][0]["reason"] == "backendError"


def test_a_corrupt_byte_is_noticed_by_the_hash_and_only_by_it(store: ObjectStore, blob: storage.Blob) -> None:
    store.fault = Once(Corrupt())
    with pytest.raises(common.DataCorruption):
        blob.download_as_bytes(retry=QUICK)
    store.fault = Once(Corrupt(at_byte=0))
    spoilt = blob.download_as_bytes(retry=QUICK, checksum=None)
    assert (spoilt[0], spoilt[1:]) == (DATA[0] ^ 0xFF, DATA[1:])
    store.fault = Once(Corrupt(at_byte=len(DATA)))
    assert blob.download_as_bytes(retry=QUICK) == DATA


def test_a_missing_hash_leaves_the_content_unchecked(store: ObjectStore, blob: storage.Blob, call: Any) -> None:
    store.fault = Once(NoHash())
    reply = call("GET", "/download/storage/v1/b/photos/o/cat.jpg?alt=media")
    assert "x-goog-hash" not in reply.headers
    assert (reply.body, reply.headers["x-goog-stored-content-length"]) == (DATA, str(len(DATA)))


def test_a_short_body_with_a_consistent_length_is_no_error_of_http(
    store: ObjectStore, blob: storage.Blob, call: Any
) -> None:
    store.fault = Once(Truncate(after_bytes=1000, is_consistent=True))
    reply = call("GET", "/download/storage/v1/b/photos/o/cat.jpg?alt=media")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, DATA[:1000], "1000")


@pytest.mark.parametrize("fault", [Stall(60), Stall(60, after_bytes=1000)])
def test_a_stall_runs_into_the_time_out_and_holds_up_nobody_else(
    store: ObjectStore, blob: storage.Blob, call: Any, fault: Fault
) -> None:
    store.fault = Once(fault, containing="/download/")
    with pytest.raises(requests.exceptions.RequestException):
        blob.download_as_bytes(retry=None, timeout=(5, 0.1))
    assert call("GET", "/storage/v1/b/photos/o/cat.jpg").status == 200
    # The end of the test does not wait for the stalled thread either.


def test_an_upload_whose_reply_is_lost_is_stored(store: ObjectStore, blob: storage.Blob) -> None:
    store.fault = Once(Reset(), "POST")
    with pytest.raises(exceptions.PreconditionFailed):
        blob.bucket.blob("lease").upload_from_string(b"mine", if_generation_match=0, retry=QUICK)
    assert store.get("photos", "lease") == b"mine"


def test_a_refused_upload_is_not_stored(store: ObjectStore, blob: storage.Blob) -> None:
    store.fault = Once(Status(503), "POST")
    with pytest.raises(exceptions.ServiceUnavailable):
        blob.bucket.blob("lease").upload_from_string(b"mine", retry=None)
    assert store.names("photos") == ["cat.jpg"]


def test_a_resumable_upload_that_breaks_goes_on_from_whole_quanta(store: ObjectStore, blob: storage.Blob) -> None:
    store.fault = once = Once(BreakUpload(after_bytes=300_000), "PUT")
    big = blob.bucket.blob("big", chunk_size=512 * 1024)
    with big.open("wb", ignore_flush=True, retry=QUICK) as stream:
        stream.write(DATA)
    assert store.get("photos", "big") == DATA
    assert [method for method, _, _ in once.asked][:3] == ["POST", "PUT", "PUT"]


def test_a_hook_that_never_answers_spoils_nothing(store: ObjectStore, blob: storage.Blob) -> None:
    store.fault = once = Once(Fault())
    assert blob.download_as_bytes(start=1, end=3) == DATA[1:4]
    assert once.asked == [("GET", once.asked[0][1], "bytes=1-3")]
    assert "/download/storage/v1/b/photos/o/cat.jpg" in once.asked[0][1]
