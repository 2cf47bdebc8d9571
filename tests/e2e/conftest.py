"""Runs of the whole job on a tiny task."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.tiny import CLASSES, REPOSITORY, Done, command, train_arguments


@pytest.fixture(scope="session")
def run() -> Callable[..., Done]:
    def run(*arguments: str) -> Done:
        done = subprocess.run(
            command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
        )
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
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
    rng = np.random.default_rng(0)
    for name, color in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(24):
            noise = rng.normal(0, 15, (40, 48, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            suffix = "png" if number % 5 == 0 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{name}-{number:02d}.{suffix}")
    (folder / "red" / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="session")
def undisturbed(run: Callable[..., Done], squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the output of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(*train_arguments(str(squares), str(folder / "run"), folder / "work"))
    assert done.code == 0, done.stderr
    return folder / "run"
