"""Runs of the whole job on a tiny task."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tiny import REPOSITORY, Done, command, make_squares, train_arguments


@pytest.fixture(scope="session")
def run() -> Callable[..., Done]:
    def run(*arguments: str) -> Done:
        done = subprocess.run(
            command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
        )
        # Where nobody watches every line of `train` is an event; the other commands also print for people.
        lines = done.stdout.splitlines()
        events = [json.loads(line) for line in lines if arguments[0] == "train" or line.startswith("{")]
        return Done(done.returncode, events, done.stderr)

    return run


@pytest.fixture(scope="session")
def reached() -> Callable[..., None]:
    """Returns a function that returns once a process has come so far, or has ended."""

    def reached(process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> None:
        while process.poll() is None and not is_reached():
            # The process writes its files while this one looks; a short wait leaves it the processor.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)

    return reached


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of 24 noisy squares a colour, as JPEG and PNG, and one file that is no image."""
    folder = tmp_path_factory.mktemp("squares") / "data"
    make_squares(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(run: Callable[..., Done], squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the output of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(*train_arguments(str(squares), str(folder / "run"), folder / "work"))
    assert done.code == 0, done.stderr
    return folder / "run"


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the jobs of a test out of the coverage, whose tracer takes a fifth of their processor time.

    For jobs that are started many times and run what the jobs of other tests run as well.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
