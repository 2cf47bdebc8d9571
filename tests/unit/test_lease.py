"""One writer a run."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from job import config as configs
from job import rundir
from job.console import JsonConsole
from job.errors import LeaseHeldError, TemporaryError
from job.interruption import Stop
from job.lease import Lease, is_dead, machine
from job.platforms import Platform
from job.storage import Store, at
from job.workspace import Workspace


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


def test_only_a_process_that_can_be_seen_from_here_counts_as_dead() -> None:
    here = {"machine": machine(), "pid": os.getpid(), "process": "an earlier process with this number"}
    assert is_dead(here)
    assert not is_dead({**here, "machine": "another container on this host"})
    assert not is_dead({**here, "pid": os.getppid()})
    assert not is_dead({"holder": "elsewhere:7"})


@pytest.mark.parametrize("content", [b"", b"[]", b"not JSON", b"{}"])
def test_a_lease_that_says_nothing_is_taken_over(store: Store, content: bytes) -> None:
    store.write(rundir.LEASE, content)
    with Lease(store, on_lost=lambda: None):
        assert json.loads(store.read(rundir.LEASE))["pid"] == os.getpid()


def test_a_lease_that_went_to_another_unnoticed_is_not_deleted(store: Store) -> None:
    with Lease(store, on_lost=lambda: None):
        _held_by(store, "elsewhere:7", until=1e12)
    assert json.loads(store.read(rundir.LEASE))["holder"] == "elsewhere:7"


def test_two_leases_of_one_process_are_two_jobs(store: Store) -> None:
    with (
        Lease(store, on_lost=lambda: None),
        pytest.raises(LeaseHeldError),
        Lease(store, on_lost=lambda: None),
    ):
        pass


def test_a_job_that_lost_its_lease_writes_no_report(tmp_path: Path) -> None:
    # Only here, as it imports TensorFlow.
    from job.stages import deliver

    stop = Stop()
    settings = configs.load(values={"data.uri": "data", "output": f"{tmp_path}/run", "work_dir": f"{tmp_path}/work"})
    workspace = Workspace.open(settings, Platform("laptop"), JsonConsole(io.StringIO()), stop)

    def run() -> None:
        with deliver.lease(workspace) as lease:
            _held_by(workspace.output, "elsewhere:7", until=1e12)
            lease.renew()
            deliver.finish(workspace, {"accepted": True})

    with pytest.raises(TemporaryError, match="took over") as error:
        run()
    stop.finish()
    assert error.value.exit_code == 75
    assert workspace.output.stat(rundir.DONE) is None
