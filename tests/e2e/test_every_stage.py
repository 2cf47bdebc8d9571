"""Stopped as each stage begins: exit 143, nothing lost, nothing done twice, the same result."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from job.demo.object_store import ObjectStore
from job.storage import at, transfer
from tests.e2e.tiny import REPOSITORY, Done, assert_same_result, train_arguments

STAGES = (
    "start",
    "pull",
    "survey",
    "build",
    "features",
    "probe",
    "head",
    "finetune",
    "evaluate",
    "export",
    "prove",
    "push",
)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        yield "gs://bucket"


def victim(plan: dict[str, Any], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.victim", json.dumps(plan), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.usefixtures("untraced")
@pytest.mark.timeout(900)
def test_a_signal_at_the_start_of_every_stage_costs_no_finished_work(
    run: Callable[..., Done], squares: Path, undisturbed: Path, bucket: str, tmp_path: Path
) -> None:
    transfer.push(squares, at(f"{bucket}/data"))
    arguments = train_arguments(f"{bucket}/data", f"{bucket}/run", tmp_path / "work", "checkpoint.every_steps=4")
    log, output = tmp_path / "events.jsonl", at(f"{bucket}/run")
    for stage in STAGES:
        ended = victim({"signal": signal.SIGTERM, "at": stage, "log": str(log)}, arguments)
        assert ended.returncode == 143, (stage, ended.stdout, ended.stderr)
        assert output.stat("lease.json") is None, stage
        if output.stat("config.yaml") is not None:
            status = json.loads(output.read("status.json"))
            assert (status["state"], status["exit_code"]) == ("stopped", 143)
            assert "was stopped" in output.read("report.md").decode()
        assert output.stat("report.json") is None
    assert run(*arguments).code == 0
    assert json.loads(output.read("status.json"))["state"] == "done"
    transfer.pull(output, tmp_path / "copy")
    assert_same_result(undisturbed, tmp_path / "copy")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    done = Counter((event["kind"], event["name"]) for event in events)
    images = [count for (kind, name), count in done.items() if kind == "download" and name.startswith(("r", "g", "b"))]
    assert images == [1] * 73
    assert done["export", "1"] == 1
    steps = [(event["name"], tuple(event["images"])) for event in events if event["kind"] == "step"]
    newest = max(path.name for path in (tmp_path / "copy" / "checkpoints").iterdir())
    assert len(steps) == len(set(steps)) == int(newest.split("-")[0]) > 30
