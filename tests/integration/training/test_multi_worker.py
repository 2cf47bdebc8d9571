"""Two workers over loopback train as one: the same batches, the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[3]
DEADLINE_S = 120
SETTINGS = {"replicas": 1, "batch": 7}


def start(settings: dict[str, Any], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.training.replicas", json.dumps({**SETTINGS, **settings})],
        cwd=REPOSITORY,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


@pytest.mark.timeout(DEADLINE_S + 30)
def test_two_workers_train_as_one() -> None:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    environs = [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})} for index in (0, 1)
    ]
    workers = [start({"strategy": "multi_worker"}, environ) for environ in environs]
    alone = start({}, {})
    first, second, single = (result(process) for process in (*workers, alone))
    assert [first["worker"], second["worker"], first["num_replicas"], single["num_replicas"]] == [0, 1, 2, 1]
    # 7 examples: a share of 4, and one of 3 with one of weight 0.
    assert first["batches"] == second["batches"] == single["batches"]
    assert first["losses"] == second["losses"]
    assert first["last"] == second["last"]
    np.testing.assert_allclose(first["losses"], single["losses"], rtol=1e-5)
    for mine, theirs in zip(first["last"], single["last"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert np.ptp(single["losses"]) > 0.05
