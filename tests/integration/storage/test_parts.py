"""Objects of more than 16 MiB on s3:// and az://: sent in parts, to which no condition can be attached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from job.demo.object_store.faults import Corrupt, Fault, Status
from job.demo.object_store.wire import Response
from job.errors import TemporaryError
from job.storage.obstore_services import azure, s3
from job.storage.obstore_store import ObstoreStore
from job.storage.retry import Policy
from job.storage.store import VersionConflictError
from tests.proxy import Proxy, Rule
from tests.servers import azurite_server

SMALLEST = bytes(range(256)) * (17 << 12)
DATA = bytes(range(256)) * (44 << 12)
"""44 MiB: six parts, two more than are on their way at once."""
ANY_PART = r"partNumber=|comp=block&"
POLICY = Policy(tries=4, first_wait_s=0.0, max_wait_s=0.0, overall_s=30.0)


@dataclass(frozen=True)
class Meanwhile(Fault):
    """Nothing goes wrong with the requests, but before the first of them is answered something else happens."""

    happen: Callable[[], Any] = lambda: None
    happened: list[bool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, response: Response) -> Response:
        with self.lock:
            if not self.happened:
                self.happen()
                self.happened.append(True)
        return response


@dataclass
class Behind:
    """A store behind a proxy, and a way to write to it past the proxy."""

    store: ObstoreStore
    put: Callable[[str, bytes], Any]
    proxy: Proxy


@pytest.fixture(params=["s3", "az"])
def behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    if request.param == "s3":
        put = request.getfixturevalue("s3_put")
        with Proxy(request.getfixturevalue("moto_url")) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            yield Behind(s3("s3://photos/set", "photos", "set", policy=POLICY), put, proxy)
        return
    container, put = request.getfixturevalue("az_container"), request.getfixturevalue("az_put")
    url = request.getfixturevalue("azurite_url").removesuffix(f"/{azurite_server.ACCOUNT}")
    with Proxy(url) as proxy:
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{proxy.url}/{azurite_server.ACCOUNT}")
        yield Behind(azure(f"az://{container}/set", container, "set", policy=POLICY), put, proxy)


@pytest.mark.parametrize("is_there", [False, True])
def test_what_another_wrote_during_an_upload_in_parts_stays(behind: Behind, tmp_path: Path, is_there: bool):
    if is_there:
        behind.put("big", b"older")
    (tmp_path / "in").write_bytes(DATA)
    behind.proxy.rules = [Rule(meanwhile := Meanwhile(lambda: behind.put("big", b"newer")), path=ANY_PART)]
    with pytest.raises(VersionConflictError, match=r"/set/big was written by somebody else"):
        behind.store.upload(tmp_path / "in", "big")
    assert meanwhile.happened
    assert behind.store.read("big") == b"newer"


def test_an_upload_that_was_given_up_leaves_no_parts_to_pay_for(
    s3_client: Any, s3_put: Callable[[str, bytes], Any], moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "in").write_bytes(DATA)
    with Proxy(moto_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = s3("s3://photos/set", "photos", "set", policy=POLICY)
        proxy.rules = [Rule(Meanwhile(lambda: s3_put("big", b"newer")), path=ANY_PART)]
        with pytest.raises(VersionConflictError):
            store.upload(tmp_path / "in", "big")
    assert s3_client.list_multipart_uploads(Bucket="photos").get("Uploads", []) == []


def test_a_part_that_fails_is_sent_again_alone(behind: Behind, tmp_path: Path):
    (tmp_path / "in").write_bytes(DATA)
    failing = Rule(Status(503), method="PUT", path=ANY_PART, after=2, times=1)
    behind.proxy.rules = [failing, arriving := Rule(Meanwhile(), method="PUT", path=ANY_PART)]
    info = behind.store.upload(tmp_path / "in", "big")
    assert info.size_bytes == len(DATA)
    assert failing.num_hit == 1
    assert arriving.num_hit == 6, "each part arrived once"
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("data", [b"small", SMALLEST], ids=["one request", "parts"])
def test_wrong_bytes_of_the_right_length_are_noticed_in_what_was_uploaded(behind: Behind, tmp_path: Path, data: bytes):
    (tmp_path / "in").write_bytes(data)
    behind.store.upload(tmp_path / "in", "object")
    (info,) = behind.store.list()
    behind.proxy.rules = [once := Rule(Corrupt(1), method="GET", path="/object", times=1)]
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert once.num_hit == 1
    behind.proxy.rules = [Rule(Corrupt(1), method="GET", path="/object")]
    with pytest.raises(TemporaryError, match="damaged"):
        behind.store.download(info, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    with pytest.raises(TemporaryError, match="damaged"):
        behind.store.read("object")


def test_what_another_tool_writes_over_an_upload_is_read(behind: Behind, tmp_path: Path):
    (tmp_path / "in").write_bytes(b"ours")
    behind.store.upload(tmp_path / "in", "object")
    behind.put("object", b"theirs")
    assert behind.store.read("object") == b"theirs"
