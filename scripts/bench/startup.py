"""How long `finetune` takes to answer, and `finetune train` to its first step on a data set that is ready.

The yardsticks are the imports that neither can do without. "Ready" is a data set that was surveyed and packed, with its
features computed: the same training again, its output gone. Every round is a process of its own, from its start.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial

import photographs
import room
import turns
from room import Setup
from rows import Limit, Row

_FIRST_STEP = """
import os, sys
from job import cli, quiet
load = quiet.import_tensorflow
def load_and_wait():
    load()
    from job.training.step import TrainStep
    step = TrainStep.run
    def first(*args, **kwargs):
        step(*args, **kwargs)
        os._exit(7)
    TrainStep.run = first
quiet.import_tensorflow = load_and_wait
sys.argv = ["finetune", *sys.argv[1:]]
cli.main()
"""
"""Trains, and ends the process behind its first step. As the command does, it imports TensorFlow in the command's own
way: imported before, NumPy would have threads that hold up the probe."""
_BEHIND_FIRST_STEP = 7


def python(*arguments: str, code: int = 0) -> float:
    """Returns the seconds of a Python process that must end with this code."""
    command = [sys.executable, *arguments]
    with turns.watch() as took:
        done = subprocess.run(command, cwd=room.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(command[:4])} ended with {done.returncode}, not {code}:\n{done.stderr[-2000:]}")
    return took.seconds


def measure(setup: Setup) -> list[Row]:
    answers = turns.interleaved(
        {"help": partial(python, "-m", "job", "--help"), "typer": partial(python, "-c", "import typer")},
        repeats=setup.size(2, 9),
    )
    output = setup.folder / "out"
    images = photographs.folder(setup, num=setup.size(60, 480))
    settings = photographs.settings(setup, image_px=setup.size(64, 160))
    wanted = [f"data.uri={images}", f"output={output}", f"work_dir={setup.folder / 'work'}", *settings]
    train = ["train", *(part for one in wanted for part in ("--set", one))]

    def to_first_step() -> float:
        shutil.rmtree(output, ignore_errors=True)
        return python("-c", _FIRST_STEP, *train, code=_BEHIND_FIRST_STEP)

    to_first_step()  # surveys, packs and computes the features
    sides = {"train": to_first_step, "tensorflow": lambda: python("-c", "import tensorflow")}
    starts = turns.interleaved(sides, repeats=setup.size(1, 3))
    limit = Limit("value", 0.3)
    return [
        Row("start", "`finetune --help` beside `import typer`", "s", answers["help"], answers["typer"], limit),
        Row(
            "start",
            "`finetune train` to its first step beside `import tensorflow`",
            "s",
            starts["train"],
            starts["tensorflow"],
            Limit("excess", 3.0),
            "data surveyed, packed, features computed",
        ),
    ]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
