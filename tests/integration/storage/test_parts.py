"""Objects of more than 8 MiB on s3:// and az://: sent in parts, under a condition, and gone on with by who comes later.

S3 is the project's own server here: moto keeps no If-Match when an upload is completed and checks no Content-MD5.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Corrupt, Fault, Reset, Status
from job.demo.object_store.wire import Response
from job.errors import AccessError, TemporaryError
from job.storage.azure import AzureStore
from job.storage.conditional import ConditionalStore
from job.storage.retry import Policy
from job.storage.s3 import S3Store
from job.storage.store import VersionConflictError
from tests.proxy import Proxy, Rule
from tests.servers import azurite_server

MIB = 1 << 20
MANY = b"".join(bytes([number]) * (8 * MIB) for number in range(6))[: 44 * MIB]
"""Six parts that differ, two more than are on their way at once."""
DATA = MANY[: 17 * MIB]
"""Three of them."""
PART = r"partNumber=\d{1,4}\b|comp=block(&|$)"
"""Of the object; not part 10,000, which names the content."""
COMPLETE = r"comp=blocklist|\?uploadId=[^&]*$"
POLICY = Policy(tries=4, first_wait_s=0.0, max_wait_s=0.0, overall_s=30.0)


@dataclass(frozen=True)
class Before(Fault):
    """Nothing goes wrong with the requests, but before the first of them reaches the service something else happens."""

    happen: Callable[[], Any]
    happened: list[bool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        with self.lock:
            if not self.happened:
                self.happen()
                self.happened.append(True)
        return blocks


@dataclass(frozen=True)
class Damage(Fault):
    """One byte of the request's body is wrong when it arrives."""

    def receive(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        body = bytearray(b"".join(blocks))
        body[len(body) // 2] ^= 0xFF
        yield bytes(body)


@dataclass
class Behind:
    """A store behind a proxy to `target`, a way to write past it, and how many bytes of parts are there unfinished."""

    store: ConditionalStore
    put: Callable[[str, bytes], Any]
    num_unfinished_bytes: Callable[[str], int]
    proxy: Proxy
    target: str


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as started:
        started.make_bucket("photos")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield started


@pytest.fixture
def s3_direct(s3_server: ObjectStore) -> Iterator[Any]:
    """boto3 past the proxy."""
    client = boto3.client("s3", endpoint_url=s3_server.url, region_name="us-east-1")
    yield client
    client.close()


@pytest.fixture(params=["s3", "az"])
def behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    if request.param == "s3":
        server, client = request.getfixturevalue("s3_server"), request.getfixturevalue("s3_direct")

        def of_s3(name: str) -> int:
            sizes = (part["Size"] for upload in unfinished(client, name) for part in parts_of(client, name, upload))
            return sum(size for size in sizes if size > 32)

        with Proxy(server.url) as proxy:
            lead_through(proxy, monkeypatch)
            store = S3Store("s3://photos/set", "photos", "set", policy=POLICY)
            yield Behind(store, lambda name, data: server.put("photos", f"set/{name}", data), of_s3, proxy, server.url)
        return
    container, put = request.getfixturevalue("az_container"), request.getfixturevalue("az_put")

    def of_azure(name: str) -> int:
        blocks = container.get_blob_client(f"set/{name}").get_block_list("uncommitted")[1]
        return sum(block.size for block in blocks)

    name = container.container_name
    url = request.getfixturevalue("azurite_url").removesuffix(f"/{azurite_server.ACCOUNT}")
    with Proxy(url) as proxy:
        lead_through(proxy, monkeypatch)
        yield Behind(AzureStore(f"az://{name}/set", name, "set", policy=POLICY), put, of_azure, proxy, url)


def lead_through(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{proxy.url}/{azurite_server.ACCOUNT}")


def unfinished(client: Any, name: str) -> list[str]:
    uploads = client.list_multipart_uploads(Bucket="photos", Prefix=f"set/{name}").get("Uploads", [])
    return [upload["UploadId"] for upload in uploads]


def parts_of(client: Any, name: str, upload: str) -> list[Any]:
    return list(client.list_parts(Bucket="photos", Key=f"set/{name}", UploadId=upload).get("Parts", []))


@pytest.mark.parametrize("moment", [PART, COMPLETE], ids=["at the first part", "after the last part"])
@pytest.mark.parametrize("is_there", [False, True])
def test_what_another_wrote_meanwhile_stays(behind: Behind, tmp_path: Path, moment: str, is_there: bool):
    if is_there:
        behind.put("big", b"older")
    (tmp_path / "in").write_bytes(DATA)
    behind.proxy.rules = [Rule(before := Before(lambda: behind.put("big", b"newer")), method="PUT|POST", path=moment)]
    with pytest.raises(VersionConflictError, match=r"/set/big was written by somebody else"):
        behind.store.upload(tmp_path / "in", "big")
    assert before.happened
    assert behind.store.read("big") == b"newer"


def test_an_object_in_parts_replaces_what_was_there_and_comes_back(behind: Behind, tmp_path: Path):
    behind.put("big", b"older")
    (tmp_path / "in").write_bytes(DATA)
    info = behind.store.upload(tmp_path / "in", "big")
    assert info == behind.store.stat("big") == next(behind.store.list())
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA
    behind.proxy.reset_counts()
    assert behind.store.upload(tmp_path / "in", "big") == info
    assert behind.proxy.counts()["upload_bytes"] == 0, "what is there is not sent again"


def test_a_part_that_fails_is_sent_again_alone(behind: Behind, tmp_path: Path):
    (tmp_path / "in").write_bytes(MANY)
    failing = Rule(Status(503), method="PUT", path=PART, after=2, times=1)
    behind.proxy.rules = [failing, arriving := Rule(Fault(), method="PUT", path=PART)]
    info = behind.store.upload(tmp_path / "in", "big")
    assert failing.num_hit == 1
    assert arriving.num_hit == 6, "each part arrived once"
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == MANY


@pytest.mark.parametrize("data", [b"small", DATA], ids=["one request", "parts"])
def test_damaged_bytes_are_refused_by_the_service_and_sent_again(behind: Behind, tmp_path: Path, data: bytes):
    (tmp_path / "in").write_bytes(data)
    path = PART if data is DATA else "/object"
    behind.proxy.rules = [damaged := Rule(Damage(), method="PUT", path=path, times=1)]
    info = behind.store.upload(tmp_path / "in", "object")
    assert (damaged.num_hit, behind.store.num_retries) == (1, 1)
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    behind.proxy.rules = [Rule(Damage(), method="PUT", path=path)]
    (tmp_path / "in").write_bytes(data + b"!")
    with pytest.raises(TemporaryError, match="received damaged data"):
        behind.store.upload(tmp_path / "in", "object")


def test_an_answer_that_is_lost_at_the_end_is_no_conflict_and_nothing_is_sent_again(behind: Behind, tmp_path: Path):
    (tmp_path / "in").write_bytes(DATA)
    lost = Rule(Reset(), method="PUT|POST", path=COMPLETE, times=1)
    behind.proxy.rules = [lost, arriving := Rule(Fault(), method="PUT", path=PART)]
    info = behind.store.upload(tmp_path / "in", "big")
    assert (lost.num_hit, arriving.num_hit) == (1, 3)
    assert info == behind.store.stat("big")


def test_another_process_goes_on_where_a_killed_one_was(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "in").write_bytes(MANY)
    code = "import sys, pathlib; from job.storage import at; at(sys.argv[1]).upload(pathlib.Path(sys.argv[2]), 'big')"
    # Once its block has ended the proxy has no request of the dead process left: what is there stays what it is.
    with Proxy(behind.target) as first:
        lead_through(first, monkeypatch)
        with subprocess.Popen([sys.executable, "-c", code, behind.store.uri, str(tmp_path / "in")]) as process:
            first.rules = [Rule(Before(process.kill), method="PUT", path=PART, after=4)]
            assert process.wait(60) == -9
    there = behind.num_unfinished_bytes("big")
    assert 8 * MIB <= there < len(MANY)
    lead_through(behind.proxy, monkeypatch)
    info = behind.store.upload(tmp_path / "in", "big")
    num_again = behind.proxy.counts()["upload_bytes"] - (len(MANY) - there)
    assert num_again < 10_000, "a part that was there came again"
    behind.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == MANY


def test_four_parts_are_on_their_way_at_once(behind: Behind, tmp_path: Path):
    (tmp_path / "in").write_bytes(MANY)
    now, most, lock = 0, 0, threading.Lock()

    class Counted(Fault):
        def receive(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            return blocks

        def spoil(self, response: Response) -> Response:
            nonlocal now
            with lock:
                now -= 1
            return response

    behind.proxy.rules = [Rule(Counted(), method="PUT", path=PART)]
    behind.store.upload(tmp_path / "in", "big")
    assert 2 <= most <= 4


@pytest.mark.parametrize("data", [b"small", DATA], ids=["one request", "parts"])
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


@pytest.fixture
def s3_behind(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(s3_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def test_s3_keeps_no_parts_to_pay_for_of_an_upload_that_was_refused(s3_behind: Proxy, s3_direct: Any, tmp_path: Path):
    store = S3Store("s3://photos/set", "photos", "set", policy=POLICY)
    (tmp_path / "in").write_bytes(DATA)
    s3_behind.rules = [Rule(Before(lambda: store.write("big", b"newer")), method="POST", path=COMPLETE)]
    with pytest.raises(VersionConflictError):
        store.upload(tmp_path / "in", "big")
    assert unfinished(s3_direct, "big") == []


def test_s3_parts_of_an_earlier_content_are_removed_and_other_tools_uploads_are_not(
    s3_behind: Proxy, s3_direct: Any, tmp_path: Path
):
    theirs = s3_direct.create_multipart_upload(Bucket="photos", Key="set/big")["UploadId"]
    store = S3Store("s3://photos/set", "photos", "set", policy=POLICY)
    (tmp_path / "in").write_bytes(DATA)
    s3_behind.rules = [Rule(Status(403), method="PUT", path=PART, after=2)]
    with pytest.raises(AccessError):
        store.upload(tmp_path / "in", "big")
    assert len(unfinished(s3_direct, "big")) == 2
    s3_behind.rules = []
    (tmp_path / "in").write_bytes(DATA[::-1])
    store.upload(tmp_path / "in", "big")
    assert unfinished(s3_direct, "big") == [theirs]
    assert store.read("big") == DATA[::-1]


def test_s3_without_permission_to_look_for_parts_all_are_sent(s3_behind: Proxy, s3_direct: Any, tmp_path: Path):
    store = S3Store("s3://photos/set", "photos", "set", policy=POLICY)
    (tmp_path / "in").write_bytes(DATA)
    may_not_look = Rule(Status(403), method="GET", path=r"\?uploads|uploadId=")
    may_not_remove = Rule(Status(403), method="DELETE")
    s3_behind.rules = [may_not_look, may_not_remove]
    store.upload(tmp_path / "in", "big")
    assert may_not_look.num_hit
    assert store.read("big") == DATA
    another = Rule(Before(lambda: store.write("big", b"newer")), method="POST", path=COMPLETE)
    s3_behind.rules = [may_not_look, may_not_remove, another]
    (tmp_path / "in").write_bytes(DATA[::-1])
    with pytest.raises(VersionConflictError):
        store.upload(tmp_path / "in", "big")
    assert may_not_remove.num_hit
    assert len(unfinished(s3_direct, "big")) == 1, "what may not be removed is left, and no error of its own"


def test_s3_parts_that_vanished_are_sent_again(s3_behind: Proxy, s3_direct: Any, tmp_path: Path):
    def remove() -> None:
        (upload,) = unfinished(s3_direct, "big")
        s3_direct.abort_multipart_upload(Bucket="photos", Key="set/big", UploadId=upload)

    store = S3Store("s3://photos/set", "photos", "set", policy=POLICY)
    (tmp_path / "in").write_bytes(DATA)
    s3_behind.rules = [Rule(Before(remove), method="POST", path=COMPLETE)]
    store.upload(tmp_path / "in", "big")
    assert store.read("big") == DATA
    assert unfinished(s3_direct, "big") == []
