"""The whole job on two workers: one result, written by the chief; stopped on one, saved by all, resumed exactly."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.tiny import Done, assert_same_result, train_arguments
from tests.e2e.workers import both, finished, start
from tests.ports import free_ports

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def together(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    folder = tmp_path_factory.mktemp("together")
    arguments = [train_arguments(str(squares), str(folder / "run"), folder / f"work-{index}") for index in (0, 1)]
    return folder / "run", both(arguments)


def test_two_workers_finish_one_run(together: tuple[Path, list[Done]]) -> None:
    output, workers = together
    assert [done.code for done in workers] == [0, 0], [done.stderr[-2000:] for done in workers]
    chief, follower = (done.events[-1]["message"] for done in workers)
    assert chief == follower
    assert chief.startswith("Done:")
    assert any("on 2 replica(s) (multi_worker" in event["message"] for event in workers[1].events)
    assert not (output / "lease.json").exists()
    # One event file: the chief's.
    assert len(list((output / "logs").glob("events*"))) == 1


def test_two_workers_train_what_one_trains(together: tuple[Path, list[Done]], undisturbed: Path) -> None:
    reports = [json.loads((output / "report.json").read_text()) for output in (together[0], undisturbed)]
    assert reports[0]["run"]["devices"] == "2 x CPU"
    ours, theirs = ({one["name"]: one["log_loss"] for one in report["winner"]["standings"]} for report in reports)
    assert set(ours) == set(theirs) == {"probe", "head", "finetune"}
    for name, log_loss in ours.items():
        np.testing.assert_allclose(log_loss, theirs[name], rtol=1e-3)
    assert reports[0]["test"]["scores"]["accuracy"] == reports[1]["test"]["scores"]["accuracy"]


def test_a_lost_worker_and_a_stopped_one_end_both_and_they_resume_exactly(
    together: tuple[Path, list[Done]], squares: Path, tmp_path: Path, reached: Callable[..., None]
) -> None:
    output = tmp_path / "run"
    arguments = [
        train_arguments(str(squares), str(output), tmp_path / f"work-{index}", "checkpoint.every_steps=3")
        for index in (0, 1)
    ]

    def steps_saved() -> int:
        names = [path.parent.name for path in (output / "checkpoints").glob("*/complete.json")]
        return int(max(names, default="0").split("-")[0])

    def after(num_steps: int, number: signal.Signals) -> list[Done]:
        """Sends a signal to the second worker once the chief has saved so many steps."""
        ports = free_ports(2)
        workers = [start(index, ports, one) for index, one in enumerate(arguments)]
        reached(workers[1], lambda: steps_saved() >= num_steps)
        workers[1].send_signal(number)
        ended = [finished(worker) for worker in workers]
        assert not (output / "report.json").exists()
        return ended

    chief, killed = after(3, signal.SIGKILL)
    assert (chief.code, killed.code) == (75, -signal.SIGKILL), chief.stderr[-2000:]
    assert "Start all workers again" in chief.error["message"]
    # The first steps of the fine-tuning: between two phases a worker leaves by itself, and the others lose it.
    num_head_steps = 15
    assert [done.code for done in after(num_head_steps + 3, signal.SIGTERM)] == [143, 143]
    # The follower somewhere else, with nothing but what the output holds.
    moved = [
        arguments[0],
        train_arguments(str(squares), str(output), tmp_path / "elsewhere", "checkpoint.every_steps=3"),
    ]
    again = both(moved)
    assert [done.code for done in again] == [0, 0], [done.stderr[-2000:] for done in again]
    assert all(any("Going on from" in event["message"] for event in done.events) for done in again)
    assert_same_result(together[0], output)
