"""The whole job beside the textbook script, once: seconds from start to exit, and accuracy on the test folder.

Probe, head, fine-tuning, evaluation, export and proof beside five and five epochs of `fit` (`textbook.py`), both on the
same photographs with nothing cached. `flowers` measures more of it: other presets, several seeds, intervals.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import measuring
import room
import turns
from measuring import Measurement, Task
from room import Setup
from rows import Limit, Row

IMAGE_PX = 160


def measure(setup: Setup) -> list[Row]:
    if setup.data is None or setup.weights is None:
        raise SystemExit("The whole job needs photographs with a test folder: give DATA and WEIGHTS.")
    image_px = setup.size(96, IMAGE_PX)
    task = Task(setup.data, setup.weights, image_px)

    def textbook() -> Measurement:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            return measuring.textbook(task, 0, 0, Path(folder))

    def balanced() -> Measurement:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            return measuring.preset(task, "balanced", 0, 0, Path(folder))

    found = turns.interleaved({"balanced": balanced, "textbook": textbook}, repeats=1)
    ours, theirs = found["balanced"], found["textbook"]
    note = f"{image_px} px, seed 0"

    def values(runs: tuple[Measurement, ...], part: str) -> tuple[float, ...]:
        return tuple(getattr(one, part) for one in runs)

    return [
        Row(
            "whole job",
            "`balanced` beside the textbook script",
            "s",
            values(ours, "seconds"),
            values(theirs, "seconds"),
            Limit("ratio", 0.5),
            note,
        ),
        Row(
            "whole job",
            "its test accuracy",
            "",
            values(ours, "accuracy"),
            values(theirs, "accuracy"),
            Limit("excess", 0.0, at_least=True),
            note,
        ),
    ]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
