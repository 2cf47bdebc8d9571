"""One writer a run, on a bucket: the precondition decides, whatever the order of requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from job import rundir
from job.demo.object_store import ObjectStore
from job.errors import LeaseHeldError
from job.lease import Lease
from job.storage import at


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        server.make_bucket("runs")
        yield server


@pytest.mark.parametrize("is_there", [False, True], ids=["a new run", "an expired lease"])
def test_of_many_that_start_together_one_wins(server: ObjectStore, is_there: bool) -> None:
    if is_there:
        server.put("runs", "1/lease.json", json.dumps({"holder": "elsewhere:7", "until": 0.0}).encode())
    leases = [Lease(at("gs://runs/1"), on_lost=lambda error: None) for _ in range(6)]
    barrier = threading.Barrier(len(leases))
    outcomes: list[str] = []

    def take(lease: Lease) -> None:
        barrier.wait()
        try:
            with lease:
                outcomes.append("won")
                barrier.wait()
        except LeaseHeldError:
            outcomes.append("refused")
            barrier.wait()

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 5 + ["won"]
    assert server.names("runs") == []


def test_the_one_that_was_taken_over_notices(server: ObjectStore) -> None:
    now, lost = [0.0], []
    store = at("gs://runs/1")
    with Lease(store, on_lost=lambda error: lost.append("first"), clock=lambda: now[0]) as first:
        first.renew()
        now[0] = 61.0
        with Lease(store, on_lost=lambda error: lost.append("second"), clock=lambda: now[0]) as second:
            first.renew()
            second.renew()
            assert lost == ["first"]
            assert first.is_lost
            assert not second.is_lost
            assert store.stat(rundir.LEASE) is not None
    assert store.stat(rundir.LEASE) is None
