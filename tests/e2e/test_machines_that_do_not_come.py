"""A pod of an Indexed Job makes TF_CONFIG from its variables, and says which of the others did not come."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tiny import REPOSITORY, Done, command, environment, train_arguments
from tests.ports import free_ports

pytestmark = pytest.mark.cluster

POD = {
    "FINETUNE_WORKERS": "2",
    "FINETUNE_JOB": "flowers",
    "FINETUNE_SERVICE": "flowers.example.invalid",
}


def train(squares: Path, tmp_path: Path, *settings: str, **variables: str) -> Done:
    arguments = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "work", *settings)
    done = subprocess.run(
        command(*arguments),
        cwd=REPOSITORY,
        env=environment(**POD, **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, [], done.stderr)


def test_a_job_whose_other_pod_does_not_come_ends_with_75_and_names_it(squares: Path, tmp_path: Path) -> None:
    done = train(squares, tmp_path, "train.start_timeout_s=0.5", JOB_COMPLETION_INDEX="1")
    assert done.code == 75, done.stderr[-2000:]
    assert "did not come within 0.5 s" in done.error["message"]
    assert "worker 0 (flowers-0.flowers.example.invalid:2222)" in done.error["message"]
    # The chief alone writes.
    assert not (tmp_path / "run").exists()


def test_a_pod_without_an_index_is_a_wrong_setting(squares: Path, tmp_path: Path) -> None:
    done = train(squares, tmp_path, JOB_COMPLETION_INDEX="")
    assert done.code == 78
    assert "JOB_COMPLETION_INDEX is ''" in done.error["message"]


def test_a_worker_that_starts_again_when_all_is_done_ends_as_the_chief_did(
    squares: Path, tmp_path: Path, undisturbed: Path, reached: Callable[..., None]
) -> None:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    process = subprocess.Popen(
        command(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "work")),
        cwd=REPOSITORY,
        env=environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It has looked for a report before, and found none.
        reached(process, lambda: any((tmp_path / "work").glob("**/survey-*.journal")))
        (tmp_path / "run").mkdir()
        shutil.copy(undisturbed / "report.json", tmp_path / "run")
        out, errors = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert json.loads(out.splitlines()[-1])["message"].startswith("Done:")


def test_a_chief_that_waits_is_stopped_and_gives_its_lease_back(squares: Path, tmp_path: Path) -> None:
    cluster = {"worker": ["127.0.0.1:0", "127.0.0.1:1"]}  # any port will do, for nobody calls
    process = subprocess.Popen(
        command(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "work")),
        cwd=REPOSITORY,
        env=environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        waits = any("Waiting for worker 1 (127.0.0.1:1)" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert waits, errors
    assert process.returncode == 143, errors
    assert not (tmp_path / "run" / "lease.json").exists()
