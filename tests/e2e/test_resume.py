"""Killed and resumed equals never killed, bit for bit."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.tiny import REPOSITORY, Done, assert_same_result, command, train_arguments


def _until(arguments: list[str], is_reached: Callable[[], bool], kill: signal.Signals) -> int:
    """Starts the job, sends the signal as soon as `is_reached`, and returns the exit code."""
    with subprocess.Popen(
        command(*arguments), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not is_reached():
            # The process writes its files while this one looks; a short wait leaves it the processor.
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        process.send_signal(kill)
        process.communicate()
        return process.returncode


def _checkpoints(output: Path) -> list[str]:
    return sorted(path.parent.name for path in (output / "checkpoints").glob("*/complete.json"))


def test_killed_three_times_equals_never_killed(
    run: Callable[..., Done], squares: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    arguments = train_arguments(str(squares), str(output), tmp_path / "work", "checkpoint.every_steps=3")
    seen: list[str] = []

    def is_further() -> bool:
        return bool(_checkpoints(output)) and _checkpoints(output)[-1] not in seen

    for _ in range(3):
        code = _until(arguments, is_further, signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert not (output / "report.json").exists()
        seen += _checkpoints(output)
    done = run(*arguments)
    assert done.code == 0, done.stderr
    assert any(event["message"].startswith("Going on from checkpoint") for event in done.events)
    assert_same_result(undisturbed, output)


def test_sigterm_saves_and_leaves_with_143_other_weights_end_the_restart_and_the_first_ones_resume_it_elsewhere(
    run: Callable[..., Done], squares: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output, mine = tmp_path / "run", tmp_path / "mine.weights.h5"
    first = (REPOSITORY / "job/demo/backbone.weights.h5").read_bytes()
    mine.write_bytes(first)
    arguments = train_arguments(str(squares), str(output), tmp_path / "work", f"model.weights={mine}")
    assert _until(arguments, lambda: bool(_checkpoints(output)), signal.SIGTERM) == 143
    assert not (output / "report.json").exists()
    assert not (output / "lease.json").exists()
    kept = _checkpoints(output)
    # The same name, and another content.
    mine.write_bytes(first + b"\0")
    refused = run(*arguments)
    assert refused.code == 78, refused.stderr
    for content in (first, first + b"\0"):
        assert hashlib.sha256(content).hexdigest() in refused.error["message"]
    assert _checkpoints(output) == kept
    mine.write_bytes(first)
    # Elsewhere, with nothing but what the output holds.
    done = run(*[part.replace(str(tmp_path / "work"), str(tmp_path / "elsewhere")) for part in arguments])
    assert done.code == 0, done.stderr
    assert_same_result(undisturbed, output)
    assert json.loads((output / "report.json").read_text())["accepted"] is True
