"""What a network does to az://: Azurite behind the proxy. what is listed has an MD5, and each range its own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient

from job.demo.object_store.faults import BreakUpload, Corrupt, Drip, Fault, Refuse, Reset, Status, Truncate
from job.errors import AccessError, TemporaryError
from job.storage.azure import AzureStore
from job.storage.retry import Policy
from job.storage.store import VersionConflictError
from job.storage.transfer import pull, push
from tests.proxy import Proxy, Rule
from tests.servers import azurite_server


@pytest.fixture
def proxy(azurite_url: str, az_container: ContainerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(azurite_url.removesuffix(f"/{azurite_server.ACCOUNT}")) as started:
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{started.url}/{azurite_server.ACCOUNT}")
        yield started


@pytest.fixture
def store(proxy: Proxy, az_container: ContainerClient) -> AzureStore:
    policy, name = Policy(first_wait_s=0.0, max_wait_s=0.0, overall_s=30.0), az_container.container_name
    return AzureStore(f"az://{name}/set", name, "set", policy=policy)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    "fault",
    [
        Status(503),
        Status(429),
        Reset(),
        Reset(after_bytes=100),
        Refuse(),
        Truncate(100),
        Truncate(50, True),
        Corrupt(1),
    ],
    ids=str,
)
def test_a_folder_goes_through_a_fault_and_back(store: AzureStore, proxy: Proxy, tmp_path: Path, fault: Fault):
    for number in range(60):
        (tmp_path / "from" / f"class_{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / f"class_{number % 2}" / f"{number}.jpg").write_bytes(bytes([number]) * 40 * number)
    (tmp_path / "from" / "parts.bin").write_bytes(bytes(range(256)) * (17 << 12))
    proxy.rules = [rule := Rule(fault, method="PUT|POST|GET", path=r"/set(/|%2F)", share=0.1)]
    push(tmp_path / "from", store)
    num_pushed = rule.num_hit
    pull(store, tmp_path / "to")
    assert files(tmp_path / "to") == files(tmp_path / "from")
    assert rule.num_hit > num_pushed > 0


@pytest.mark.parametrize("what", ["write", "upload"])
@pytest.mark.parametrize("fault", [Reset(), BreakUpload(3), Refuse()], ids=str)
def test_a_write_whose_answer_is_lost_is_no_conflict_with_itself(
    store: AzureStore, proxy: Proxy, tmp_path: Path, what: str, fault: Fault
):
    store.write("status.json", b"older")
    (tmp_path / "in").write_bytes(b"newer")
    proxy.rules = [rule := Rule(fault, method="PUT", times=3)]
    info = store.write("status.json", b"newer") if what == "write" else store.upload(tmp_path / "in", "status.json")
    assert rule.num_hit
    assert store.read("status.json") == b"newer"
    assert store.stat("status.json") == info


def test_another_writer_is_a_conflict(store: AzureStore, proxy: Proxy):
    old = store.write("status.json", b"older")
    store.write("status.json", b"newer")
    proxy.rules = [Rule(Reset(), method="PUT", times=3)]
    with pytest.raises(VersionConflictError):
        store.write("status.json", b"stale", if_version=old.version)
    assert store.read("status.json") == b"newer"


def test_permission_withdrawn_in_mid_run_names_the_object(store: AzureStore, proxy: Proxy, tmp_path: Path):
    for number in range(40):
        (tmp_path / f"{number:02d}.bin").write_bytes(b"x")
    proxy.rules = [Rule(Status(403), method="PUT", after=20)]
    with pytest.raises(AccessError, match=rf"{store.uri}/\d\d\.bin") as caught:
        push(tmp_path, store)
    assert caught.value.exit_code == 77


def test_a_body_that_drips_past_the_limit_is_fetched_over_another_connection(
    store: AzureStore, proxy: Proxy, az_container: ContainerClient, tmp_path: Path
):
    info = store.write("a.jpg", bytes(2000))
    # Half of the deadline for the dripping try: the progress time-out never ends it, as a byte comes every 50 ms.
    policy = Policy(first_wait_s=0.0, max_wait_s=0.0, progress_timeout_s=30.0, overall_s=1.0)
    hurried = AzureStore(store.uri, az_container.container_name, "set", policy=policy)
    proxy.rules = [Rule(Drip(20.0), path="a.jpg", times=1)]
    hurried.download(info, tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == bytes(2000)
    proxy.rules = [Rule(Drip(20.0), path="a.jpg")]
    with pytest.raises(TemporaryError, match=r"a\.jpg failed in \d tries .* only [\d,]+ bytes came in 1 s"):
        hurried.download(info, tmp_path / "again.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    gc.collect()  # a connection that was left open would be a warning, and so an error


def test_a_broken_body_goes_on_with_the_range_where_it_was(store: AzureStore, proxy: Proxy, tmp_path: Path):
    data = bytes(range(256)) * (9 << 12)
    (tmp_path / "in").write_bytes(data)
    info = store.upload(tmp_path / "in", "big")
    proxy.rules = [Rule(Truncate(1000), method="GET", after=1, times=1)]
    proxy.reset_counts()
    store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert (proxy.counts()["requests"]["GET"], store.num_retries) == (4, 1)
    assert proxy.counts()["content_bytes_again"] <= 1000


def test_a_service_that_stays_away_is_a_temporary_error(store: AzureStore, proxy: Proxy):
    proxy.rules = [rule := Rule(Refuse())]
    with pytest.raises(TemporaryError, match=rf"reading {store.uri}/a failed in 8 tries over") as caught:
        store.read("a")
    assert caught.value.exit_code == 75
    assert rule.num_hit == 8, "no tries but those"
