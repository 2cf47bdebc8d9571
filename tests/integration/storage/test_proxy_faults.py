"""Whole folders through a network that breaks: every fault ends in the right bytes or an error that says which."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import (
    BreakUpload,
    Corrupt,
    Drip,
    Refuse,
    Reset,
    Stall,
    Status,
    Truncate,
)
from job.errors import AccessError, TemporaryError
from job.storage.gcs import GcsStore
from job.storage.retry import Policy
from job.storage.s3 import S3Store
from job.storage.store import Store
from job.storage.transfer import pull, push
from tests.proxy import Proxy, Rule

NUM_OBJECTS = 300
QUICK = Policy(first_wait_s=0.0, max_wait_s=0.0, progress_timeout_s=0.5, overall_s=60.0)


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """Returns the objects: sizes from nothing to a few kilobytes, and one that a stream breaks in the middle of."""
    draw = random.Random(0)
    found = {f"class_{n % 3}/{n:03d}.jpg": draw.randbytes(draw.randrange(4000)) for n in range(NUM_OBJECTS - 1)}
    return found | {"large.bin": draw.randbytes(3 << 20)}


@pytest.fixture(scope="module")
def store(content: dict[str, bytes]) -> Iterator[ObjectStore]:
    with ObjectStore() as server:
        for name, data in content.items():
            server.put("photos", f"set/{name}", data)
        yield server


@pytest.fixture
def proxy(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(store.url, seed=0) as started:
        for name, value in {
            "STORAGE_EMULATOR_HOST": started.url,
            "AWS_ENDPOINT_URL": started.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield started


def gs_store(policy: Policy = QUICK) -> GcsStore:
    return GcsStore("gs://photos/set", "photos", "set", policy=policy)


def s3_store(policy: Policy = QUICK) -> Store:
    return S3Store("s3://photos/set", "photos", "set", policy=policy)


STORES: dict[str, Callable[[Policy], Store]] = {"gs": gs_store, "s3": s3_store}


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


MEDIA = r"alt=media|/photos/set/"
LISTING = r"[?&](prefix|list-type)="

# One fewer than the tries of an object: they are made without a pause here, and one object may draw the whole burst.
BURST = 7

PULLS: dict[str, list[Rule]] = {
    "a burst of 503": [Rule(Status(503), path=MEDIA, times=BURST)],
    "429 with Retry-After": [Rule(Status(429, retry_after_s=1), path=MEDIA, times=3)],
    "resets before an answer": [Rule(Reset(), path=MEDIA, share=0.1)],
    "resets in the middle": [Rule(Reset(after_bytes=1000), path=MEDIA, share=0.1)],
    "refused connections": [Rule(Refuse(), share=0.1)],
    "stalls before an answer": [Rule(Stall(60.0), path="class_1", times=5)],
    "stalls in the middle": [Rule(Stall(60.0, after_bytes=100), path="large.bin", times=1)],
    "a drip": [Rule(Drip(50_000.0), path="class_2", times=30)],
    "wrong bytes": [Rule(Corrupt(-1), path=MEDIA, share=0.1)],
    "short bodies": [Rule(Truncate(500), path=MEDIA, share=0.1)],
    "short bodies that look whole": [Rule(Truncate(500, is_consistent=True), path=MEDIA, share=0.1)],
    "half a listing": [Rule(Truncate(1000, is_consistent=True), path=LISTING, times=3)],
    "a broken listing": [Rule(Truncate(1000), path=LISTING, times=3)],
    "all at once": [
        Rule(fault, path=MEDIA, share=0.02)
        for fault in (Status(503), Status(500), Reset(), Reset(700), Refuse(), Corrupt(3), Truncate(9))
    ],
}


@pytest.mark.parametrize("scheme", STORES)
@pytest.mark.parametrize("fault", PULLS)
def test_a_pull_through_a_fault_has_every_byte_right(
    proxy: Proxy, content: dict[str, bytes], tmp_path: Path, fault: str, scheme: str
):
    proxy.rules = rules = PULLS[fault]
    for rule in rules:
        rule.num_seen = rule.num_hit = 0
    pulled = pull(STORES[scheme](QUICK), tmp_path)
    assert files(tmp_path) == content
    assert pulled.num_fetched == NUM_OBJECTS
    assert all(rule.num_hit for rule in rules), "the fault was never met"


PUSHES: dict[str, list[Rule]] = {
    "a burst of 503": [Rule(Status(503), method="POST|PUT", times=BURST)],
    "429 with Retry-After": [Rule(Status(429, retry_after_s=1), method="POST|PUT", times=3)],
    "lost answers": [Rule(Reset(), method="POST|PUT", share=0.1)],
    "broken uploads": [Rule(BreakUpload(300), method="POST|PUT", share=0.1)],
    "refused connections": [Rule(Refuse(), share=0.1)],
    "a stalled answer": [Rule(Stall(60.0), method="POST|PUT", times=1)],
    "half an answer": [Rule(Truncate(10, is_consistent=True), method="POST|PUT", share=0.1)],
}


@pytest.mark.parametrize("scheme", STORES)
@pytest.mark.parametrize("fault", PUSHES)
def test_a_push_through_a_fault_has_every_byte_right(
    proxy: Proxy, store: ObjectStore, content: dict[str, bytes], tmp_path: Path, fault: str, scheme: str
):
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "resumable.bin").write_bytes(content["large.bin"] * 6)
    (tmp_path / "done.json").write_bytes(b"{}")
    proxy.rules = rules = PUSHES[fault]
    for rule in rules:
        rule.num_seen = rule.num_hit = 0
    prefix = f"{scheme}-{sorted(PUSHES).index(fault)}"
    pushed = push(tmp_path, STORES[scheme](QUICK), prefix=prefix, last=["done.json"])
    there = {name.split("/", 2)[2]: store.get("photos", name) for name in store.names("photos", f"set/{prefix}/")}
    assert there == files(tmp_path)
    assert pushed.num_sent == NUM_OBJECTS + 2
    assert all(rule.num_hit for rule in rules), "the fault was never met"
    for name in store.names("photos", f"set/{prefix}/"):
        store.forget("photos", name)


@pytest.mark.parametrize("scheme", STORES)
def test_permission_withdrawn_in_the_middle_of_a_pull_names_the_object(
    proxy: Proxy, content: dict[str, bytes], tmp_path: Path, scheme: str
):
    proxy.rules = [Rule(Status(403), path=MEDIA, after=150)]
    with pytest.raises(AccessError, match=rf"{scheme}://photos/set/(class_\d/\d+\.jpg|large\.bin)") as caught:
        pull(STORES[scheme](QUICK), tmp_path)
    assert caught.value.exit_code == 77
    assert caught.value.next_step
    there = files(tmp_path)
    assert len(there) >= 100, "what came before is kept"
    assert there.items() <= content.items()
    proxy.rules = []
    proxy.reset_counts()
    pull(STORES[scheme](QUICK), tmp_path)
    assert files(tmp_path) == content
    if scheme == "gs":
        assert proxy.counts()["objects"] == NUM_OBJECTS - len(there), "nothing that was there came again"


@pytest.mark.parametrize("scheme", STORES)
def test_permission_withdrawn_in_the_middle_of_a_push_names_the_object(
    proxy: Proxy, tmp_path: Path, scheme: str, store: ObjectStore
):
    for number in range(200):
        (tmp_path / f"{number}.bin").write_bytes(b"x")
    proxy.rules = [Rule(Status(403), method="POST|PUT", after=100)]
    with pytest.raises(AccessError, match=rf"{scheme}://photos/set/withdrawn-{scheme}/\d+\.bin") as caught:
        push(tmp_path, STORES[scheme](QUICK), prefix=f"withdrawn-{scheme}", last=["7.bin"])
    assert caught.value.exit_code == 77
    names = store.names("photos", f"set/withdrawn-{scheme}/")
    assert len(names) >= 100
    assert f"set/withdrawn-{scheme}/7.bin" not in names, "the marker is not there"
    for name in names:
        store.forget("photos", name)


@pytest.mark.parametrize("scheme", STORES)
def test_a_body_that_drips_past_the_limit_is_fetched_over_another_connection(
    proxy: Proxy, content: dict[str, bytes], tmp_path: Path, scheme: str
):
    # Half of the deadline for the dripping try: the progress time-out never ends it, as a byte comes every 50 ms.
    chosen = STORES[scheme](Policy(first_wait_s=0.0, max_wait_s=0.0, progress_timeout_s=30.0, overall_s=1.0))
    info = next(info for info in chosen.list() if info.name == "class_0/000.jpg")
    proxy.rules = [Rule(Drip(20.0), path="class_0/000.jpg", times=1)]
    chosen.download(info, tmp_path / "000.jpg")
    assert (tmp_path / "000.jpg").read_bytes() == content["class_0/000.jpg"]
    proxy.rules = [Rule(Drip(20.0), path="class_0/000.jpg")]
    with pytest.raises(TemporaryError, match=r"class_0/000\.jpg failed in \d tries .* only [\d,]+ bytes came in 1 s"):
        chosen.download(info, tmp_path / "again.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["000.jpg"]


def test_a_store_that_is_away_is_a_temporary_error_and_comes_back(proxy: Proxy, content: dict[str, bytes], tmp_path):
    proxy.rules = [Rule(Refuse(), after=100)]
    with pytest.raises(TemporaryError, match=r"failed in 8 tries|were not tried") as caught:
        pull(gs_store(), tmp_path)
    assert caught.value.exit_code == 75
    proxy.rules = []
    assert pull(gs_store(), tmp_path).num_fetched < NUM_OBJECTS
    assert files(tmp_path) == content


def test_content_that_comes_again_is_counted(proxy: Proxy, content: dict[str, bytes], tmp_path: Path):
    chosen = gs_store()
    info = next(info for info in chosen.list() if info.name == "large.bin")
    chosen.download(info, tmp_path / "a")
    assert (proxy.counts()["content_bytes"], proxy.counts()["content_bytes_again"]) == (3 << 20, 0)
    proxy.rules = [Rule(Reset(after_bytes=1 << 20), path="alt=media", times=1)]
    chosen.download(info, tmp_path / "b")
    counts = proxy.counts()
    assert counts["content_bytes_again"] == (1 << 20) + (3 << 20)
    assert counts["faults"] == {"Reset": 1}
    assert counts["objects"] == 1


def test_links_in_answers_lead_through_the_proxy(proxy: Proxy, store: ObjectStore, tmp_path: Path):
    (tmp_path / "in").write_bytes(bytes(20 << 20))
    gs_store().upload(tmp_path / "in", "session.bin")
    assert proxy.counts()["upload_bytes"] >= 20 << 20, "the session's Location named the store itself"
    listed = json.loads(urllib3.request("GET", f"{proxy.url}/storage/v1/b/photos/o?prefix=set/session").data)
    assert listed["items"][0]["mediaLink"].startswith(proxy.url)
    store.forget("photos", "set/session.bin")


def test_it_runs_as_a_process_and_is_programmed_over_its_second_port(store: ObjectStore, tmp_path: Path):
    (tmp_path / "rules.json").write_text(json.dumps([{"fault": "status", "code": 503, "retry_after_s": 3, "times": 1}]))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.proxy", "--target", store.url, "--rules", str(tmp_path / "rules.json")],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        http = urllib3.PoolManager(retries=False)
        listing = f"{said['url']}/storage/v1/b/photos/o"
        first = http.request("GET", listing)
        assert (first.status, first.headers["retry-after"]) == (503, "3")
        assert http.request("GET", listing).status == 200
        rules = http.request("PUT", f"{said['control']}/rules", json=[]).json()
        assert rules == []
        http.request("POST", f"{said['control']}/rules", json={"fault": "reset", "path": "/o"})
        with pytest.raises(urllib3.exceptions.ProtocolError):
            http.request("GET", listing)
        (rule,) = http.request("GET", f"{said['control']}/rules").json()
        assert (rule["fault"], rule["num_hit"]) == ("reset", 1)
        refused = http.request("POST", f"{said['control']}/rules", json={"fault": "flood"})
        assert refused.status == 400
        assert "one of status, refuse" in refused.json()["error"]
        assert http.request("GET", f"{said['control']}/counts").json()["faults"] == {"Status": 1, "Reset": 1}
        assert http.request("DELETE", f"{said['control']}/counts").json()["requests"] == {}
        process.terminate()
        assert process.wait(30) == 0


def test_the_same_seed_meets_the_same_faults():
    def drawn(seed: int) -> list[bool]:
        with Proxy("http://127.0.0.1:9", seed=seed) as proxy:
            proxy.rules = [Rule(Reset(), share=0.5)]
            return [proxy._rules.decide("GET", "/") is not None for _ in range(40)]

    assert drawn(1) == drawn(1) != drawn(2)
