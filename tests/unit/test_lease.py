"""One writer a run."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from job import config as configs
from job import rundir
from job.console import JsonConsole
from job.errors import LeaseHeldError, TemporaryError
from job.fence import Fenced
from job.interruption import Stop
from job.lease import Lease, held_as, is_dead, machine
from job.platforms import Platform
from job.storage import ObjectInfo, Store, VersionConflictError, at
from job.storage.local import LocalStore
from job.workspace import Workspace


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return at(str(tmp_path / "run"))


def _held_by(store: Store, holder: str, until: float, **facts: object) -> None:
    store.write(rundir.LEASE, json.dumps({"holder": holder, "until": until, **facts}).encode())


def ignore(error: LeaseHeldError) -> None:
    pass


class Time:
    """A clock that only waiting moves."""

    def __init__(self, now: float, *, during: Callable[[float], None] = lambda now: None) -> None:
        self.now = now
        self._during = during

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._during(self.now)


def test_the_second_job_is_refused_with_who_and_until(store: Store) -> None:
    _held_by(store, "elsewhere:7", until=100.0)
    time = Time(50.0, during=lambda now: _held_by(store, "elsewhere:7", until=now + 60.0))
    told: list[str] = []
    with (
        pytest.raises(LeaseHeldError, match=r"elsewhere:7.*00:01:55 UTC") as error,
        Lease(store, on_lost=ignore, on_wait=told.append, clock=time.clock, wait=time.wait),
    ):
        pass
    assert error.value.exit_code == 75
    assert "another --output" in error.value.next_step
    (waiting,) = told
    assert "elsewhere:7" in waiting


def test_a_job_of_this_machine_that_is_alive_is_refused_at_once(store: Store) -> None:
    _held_by(store, "here:1", until=100.0, machine=machine(), pid=os.getppid(), process="0")
    with (
        pytest.raises(LeaseHeldError, match="here:1"),
        Lease(store, on_lost=ignore, clock=lambda: 50.0, wait=pytest.fail),
    ):
        pass


def test_a_lease_that_nobody_renews_is_taken_over_when_it_ends(store: Store) -> None:
    _held_by(store, "elsewhere:7", until=100.0)
    time = Time(50.0)
    with Lease(store, on_lost=ignore, clock=time.clock, wait=time.wait):
        assert json.loads(store.read(rundir.LEASE))["until"] == pytest.approx(time.now + 60.0)
    assert 100.0 <= time.now < 106.0


def test_who_was_taken_over_writes_nothing_not_even_before_it_noticed(store: Store) -> None:
    time = Time(50.0)
    lost: list[LeaseHeldError] = []
    with Lease(store, on_lost=lost.append, clock=time.clock, wait=time.wait) as lease:
        fenced = Fenced(store, lease.confirm)
        fenced.write("before", b"")
        time.now += 61.0  # cut off for as long as the lease lasts; nobody renews it
        _held_by(store, "elsewhere:7", until=1e12)
        for change in (
            lambda: fenced.write("after", b""),
            lambda: fenced.upload(Path(__file__), "after"),
            lambda: fenced.delete("before"),
        ):
            with pytest.raises(LeaseHeldError, match="took over"):
                change()
    assert {info.name for info in store.list()} == {"before", rundir.LEASE}
    assert len(lost) == 1


def test_a_lease_that_expired_unseen_is_renewed_before_the_next_write(store: Store) -> None:
    time = Time(50.0)
    with Lease(store, on_lost=ignore, clock=time.clock, wait=time.wait) as lease:
        time.now += 300.0
        Fenced(store, lease.confirm).write("after", b"")
        assert json.loads(store.read(rundir.LEASE))["until"] == pytest.approx(410.0)
    assert held_as(store) == ""


def test_a_renewal_whose_answer_was_lost_is_no_take_over(store: Store) -> None:
    class Forgetful(LocalStore):
        """Writes, and then says that somebody else did: what a client says of its own second try."""

        forgets = False

        def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
            info = super().write(name, data, if_version=if_version)
            if self.forgets:
                raise VersionConflictError(f"{name} was written by somebody else")
            return info

    folder = Path(store.uri)
    forgetful = Forgetful(store.uri, folder)
    with Lease(forgetful, on_lost=lambda error: pytest.fail(error.message)) as lease:
        forgetful.forgets = True
        lease.renew()
        forgetful.forgets = False
        lease.renew()
        assert not lease.is_lost


def test_an_expired_lease_is_taken_over_and_given_back(store: Store) -> None:
    _held_by(store, "elsewhere:7", until=100.0)
    with Lease(store, on_lost=ignore, clock=lambda: 101.0, wait=pytest.fail):
        assert json.loads(store.read(rundir.LEASE))["until"] == pytest.approx(161.0)
    assert store.stat(rundir.LEASE) is None


def test_a_dead_process_of_this_machine_does_not_hold_it(store: Store) -> None:
    with Path("/proc/sys/kernel/pid_max").open() as file:
        nobody = int(file.read()) + 1
    _held_by(store, f"here:{nobody}", until=1e12, machine=machine(), pid=nobody, process="0")
    with Lease(store, on_lost=ignore) as lease:
        assert not lease.is_lost


def test_whoever_was_taken_over_notices_and_leaves_the_lease_alone(store: Store) -> None:
    lost: list[LeaseHeldError] = []
    with Lease(store, on_lost=lost.append) as lease:
        lease.renew()
        assert lost == []
        _held_by(store, "elsewhere:7", until=1e12)
        lease.renew()
        assert len(lost) == 1
        assert "took over" in lost[0].message
        assert lease.is_lost
    assert json.loads(store.read(rundir.LEASE))["holder"] == "elsewhere:7"


def test_of_two_that_start_together_one_wins(store: Store) -> None:
    store.write("config.yaml", b"")
    leases = [Lease(store, on_lost=ignore) for _ in range(4)]
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
    with Lease(store, on_lost=ignore):
        assert json.loads(store.read(rundir.LEASE))["pid"] == os.getpid()


def test_a_lease_that_went_to_another_unnoticed_is_not_deleted(store: Store) -> None:
    with Lease(store, on_lost=ignore):
        _held_by(store, "elsewhere:7", until=1e12)
    assert json.loads(store.read(rundir.LEASE))["holder"] == "elsewhere:7"


def test_two_leases_of_one_process_are_two_jobs(store: Store) -> None:
    with (
        Lease(store, on_lost=ignore),
        pytest.raises(LeaseHeldError),
        Lease(store, on_lost=ignore),
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


def test_a_worker_that_waits_for_the_report_of_a_chief_that_started_again_leaves(tmp_path: Path) -> None:
    # Only here, as it imports TensorFlow.
    from job.stages import deliver

    settings = configs.load(values={"data.uri": "data", "output": f"{tmp_path}/run", "work_dir": f"{tmp_path}/work"})
    workspace = Workspace.open(settings, Platform("laptop"), JsonConsole(io.StringIO()), Stop())
    with Lease(workspace.output, on_lost=ignore):
        met = held_as(workspace.output)
    for _ in range(2):  # It has left, and another one has come.
        with pytest.raises(TemporaryError, match="ended without a report"):
            deliver.report_of_chief(workspace, met)
        _held_by(workspace.output, "elsewhere:7", until=1e12, lease="another")
    workspace.output.write(rundir.DONE, b'{"accepted": true}')
    assert deliver.report_of_chief(workspace, met) == {"accepted": True}
