"""Several workers over loopback train as one: the same batches, the same losses; each does its share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ports import free_ports

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[3]
DEADLINE_S = 120
SETTINGS = {"replicas": 1, "batch": 7}


def start(program: str, argument: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.training.{program}", argument],
        cwd=REPOSITORY,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(program: str, arguments: list[str]) -> list[dict[str, Any]]:
    """Returns what each of so many workers prints, the chief first."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(arguments))]}
    workers = []
    for index, argument in enumerate(arguments):
        tf_config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        workers.append(start(program, argument, {"TF_CONFIG": tf_config}))
    return [result(worker) for worker in workers]


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


@cache
def alone() -> dict[str, Any]:
    """Returns what one machine prints that trains with the same settings."""
    return result(start("replicas", json.dumps(SETTINGS), {}))


@pytest.mark.timeout(DEADLINE_S + 30)
@pytest.mark.parametrize("num_workers", [2, 3])
def test_several_workers_train_as_one(num_workers: int) -> None:
    workers = together("replicas", [json.dumps({**SETTINGS, "strategy": "multi_worker"})] * num_workers)
    single = alone()
    assert [found["worker"] for found in workers] == list(range(num_workers))
    assert single["num_replicas"] == 1
    for found in workers:
        assert found["num_replicas"] == num_workers
        # 7 examples: two shares of 4, or three of 3; the last one is filled up with examples of weight 0.
        assert found["batches"] == single["batches"]
        assert found["losses"] == workers[0]["losses"]
        assert found["last"] == workers[0]["last"]
        # What it feeds is all that it fetches.
        size = -(-7 // num_workers)
        share = slice(found["worker"] * size, (found["worker"] + 1) * size)
        assert found["fetched"] == sorted({index for batch in found["batches"] for index in batch[share]})
    np.testing.assert_allclose(workers[0]["losses"], single["losses"], rtol=1e-5)
    for mine, theirs in zip(workers[0]["last"], single["last"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert np.ptp(single["losses"]) > 0.05


@pytest.mark.timeout(3 * DEADLINE_S)
def test_workers_compute_features_by_share_and_each_gets_all(tmp_path: Path) -> None:
    def run(num_workers: int, *lost: int) -> list[dict[str, Any]]:
        folders = [tmp_path / f"{num_workers}-{worker}" for worker in range(num_workers)]
        for worker in lost:
            shutil.rmtree(folders[worker])
        return together("exchange", [str(folder) for folder in folders])

    single = result(start("exchange", str(tmp_path / "alone"), {}))
    workers = run(3)
    for found in workers:
        assert found["gathered"] == [True] * 3
        assert found["text"] == "worker 0"
        assert found["least"] == 5
        assert found["features"] == workers[0]["features"]
        assert found["logits"] == workers[0]["logits"]
        # Eleven images in shares of 4, 4 and 3, each of them asked for once a view.
        share = single["asked"][4 * found["worker"] :][: 4 if found["worker"] < 2 else 3]
        assert sorted(found["asked"]) == sorted(2 * share)
    np.testing.assert_allclose(workers[0]["features"], single["features"], atol=1e-6)
    np.testing.assert_allclose(workers[0]["logits"], single["logits"], atol=1e-6)
    assert np.std(single["features"]) > 1e-3
    # All there: nothing is computed. One of them starts elsewhere: all compute their share with it.
    assert [found["asked"] for found in run(3)] == [[], [], []]
    again = run(3, 1)
    assert [found["features"] for found in again] == [workers[0]["features"]] * 3
    assert all(sorted(found["asked"]) == sorted(before["asked"]) for found, before in zip(again, workers, strict=True))
