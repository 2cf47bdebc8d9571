"""One writer a run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from job import rundir
from job.errors import LeaseHeldError
from job.lease import Lease, machine
from job.storage import Store, at


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return at(str(tmp_path / "run"))


def _held_by(store: Store, holder: str, until: float, **facts: object) -> None:
    store.write(rundir.LEASE, json.dumps({"holder": holder, "until": until, **facts}).encode())


def test_the_second_job_is_refused_with_who_and_until(store: Store) -> None:
    _held_by(store, "elsewhere:7", until=100.0)
    with (
        pytest.raises(LeaseHeldError, match=r"elsewhere:7.*00:01:40 UTC") as error,
        Lease(store, on_lost=lambda: None, clock=lambda: 50.0),
    ):
        pass
    assert error.value.exit_code == 75
    assert "another --output" in error.value.next_step


def test_an_expired_lease_is_taken_over_and_given_back(store: Store) -> None:
    _held_by(store, "elsewhere:7", until=100.0)
    with Lease(store, on_lost=lambda: None, clock=lambda: 101.0):
        assert json.loads(store.read(rundir.LEASE))["until"] == pytest.approx(161.0)
    assert store.stat(rundir.LEASE) is None


def test_a_dead_process_of_this_machine_does_not_hold_it(store: Store) -> None:
    with Path("/proc/sys/kernel/pid_max").open() as file:
        nobody = int(file.read()) + 1
    _held_by(store, f"here:{nobody}", until=1e12, machine=machine(), pid=nobody, process="0")
    with Lease(store, on_lost=lambda: None) as lease:
        assert not lease.is_lost


def test_whoever_was_taken_over_notices_and_leaves_the_lease_alone(store: Store) -> None:
    lost: list[bool] = []
    with Lease(store, on_lost=lambda: lost.append(True)) as lease:
        lease.renew()
        assert lost == []
        _held_by(store, "elsewhere:7", until=1e12)
        lease.renew()
        assert lost == [True]
        assert lease.is_lost
    assert json.loads(store.read(rundir.LEASE))["holder"] == "elsewhere:7"


def test_of_two_that_start_together_one_wins(store: Store) -> None:
    store.write("config.yaml", b"")
    leases = [Lease(store, on_lost=lambda: None) for _ in range(4)]
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
    assert sorted(outcomes) == ["refused"] * 3 + ["won"]
