"""Whole jobs on machines with addresses of their own: three pods train as one machine, and a lost one ends the others.

Each is a network namespace, its pod's variables are those of an Indexed Job, and the others are found by name.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.namespaces import Network, network, why_not
from tests.e2e.tiny import REPOSITORY, Done, command, environment, train_arguments

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("untraced")]

POD = {"FINETUNE_JOB": "flowers", "FINETUNE_SERVICE": "flowers.test"}
"""As on the page, docs/several-machines.md."""
BOUND_S = 120
"""Within which the others end when one is gone: far above the 10 s after which TensorFlow misses its heartbeat."""


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Skips where there are none; in CI that fails, unless its kernel was found to let no containers run either."""
    if reason := why_not():
        if os.environ.get("CI") and "FINETUNE_NO_CONTAINERS" not in os.environ:
            pytest.fail(f"no machines of their own: {reason}")
        pytest.skip(f"no machines of their own: {reason}")


@contextmanager
def started(net: Network, squares: Path, folder: Path, *settings: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Gives a pod on each machine; they share the disk of the output, and nothing else."""
    num = len(net.machines)
    pods = [
        subprocess.Popen(
            net.command(
                index,
                *command(*train_arguments(str(squares), str(folder / "run"), folder / f"work-{index}", *settings)),
            ),
            cwd=REPOSITORY,
            env=environment(**POD, FINETUNE_WORKERS=str(num), JOB_COMPLETION_INDEX=str(index)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(num)
    ]
    try:
        yield pods
    finally:
        for pod in pods:
            pod.kill()
            pod.wait()


def ended(pod: subprocess.Popen[str], *, within_s: float) -> Done:
    out, err = pod.communicate(timeout=within_s)
    return Done(pod.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err)


def test_three_pods_of_an_indexed_job_train_what_one_machine_trains(
    squares: Path, tmp_path: Path, undisturbed: Path
) -> None:
    with network(POD["FINETUNE_SERVICE"], 3, job="flowers") as net, started(net, squares, tmp_path) as pods:
        done = [ended(pod, within_s=280) for pod in pods]
    assert [each.code for each in done] == [0, 0, 0], [each.stderr[-2000:] for each in done]
    ours, theirs = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "run", undisturbed))
    assert ours["run"]["devices"] == "3 x CPU"
    standings = [{one["name"]: one["log_loss"] for one in report["winner"]["standings"]} for report in (ours, theirs)]
    assert set(standings[0]) == set(standings[1]) == {"probe", "head", "finetune"}
    for name, log_loss in standings[0].items():
        np.testing.assert_allclose(log_loss, standings[1][name], rtol=1e-3)
    assert ours["test"]["scores"]["accuracy"] == theirs["test"]["scores"]["accuracy"]
    np.testing.assert_allclose(ours["test"]["scores"]["log_loss"], theirs["test"]["scores"]["log_loss"], rtol=1e-3)
    # Each has looked at its third of the images, and the tables are one.
    surveyed = [max(event["total"] for event in each.events if event.get("stage") == "survey") for each in done]
    assert surveyed == [25, 25, 23]
    assert (tmp_path / "run" / "dataset.csv").read_text() == (undisturbed / "dataset.csv").read_text()


def test_a_machine_that_vanishes_from_the_network_ends_all_with_75(
    squares: Path, tmp_path: Path, reached: Callable[..., None]
) -> None:
    settings = ("checkpoint.every_steps=3", "train.head.epochs=500", "train.finetune.epochs=500")
    with network(POD["FINETUNE_SERVICE"], 2, job="flowers") as net, started(net, squares, tmp_path, *settings) as pods:
        # A checkpoint of the training, not the probe's.
        saved = (tmp_path / "run" / "checkpoints").glob
        reached(pods[0], lambda: any(int(path.parent.name[:8]) > 0 for path in saved("*/complete.json")))
        net.cut(1)
        done = [ended(pod, within_s=BOUND_S) for pod in pods]
    # The vanished one is alive: to it, the other is gone.
    assert [each.code for each in done] == [75, 75], [each.stderr[-2000:] for each in done]
    assert all("Start all workers again" in each.error["message"] for each in done)
    assert not (tmp_path / "run" / "lease.json").exists()
