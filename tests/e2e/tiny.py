"""A whole job that takes seconds: coloured squares, the demo's small backbone, everything repeatable."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
TINY = (
    "model.backbone=mobilenet_025",
    # Live features: those of an untrained network are nearly constant.
    f"model.weights={REPOSITORY}/job/demo/backbone.weights.h5",
    "data.image_px=32",
    "train.deterministic=true",
    "train.batch=8",
    "train.head.epochs=2",
    "train.finetune.epochs=3",
    "train.finetune.learning_rate=0.0001",
    "train.finetune.views=2",
    "evaluate.bootstrap=100",
)


def make_squares(folder: Path) -> None:
    """Makes 24 noisy squares a colour, as JPEG and PNG, and one file that is no image."""
    rng = np.random.default_rng(0)
    for name, color in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(24):
            noise = rng.normal(0, 15, (40, 48, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            suffix = "png" if number % 5 == 0 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{name}-{number:02d}.{suffix}")
    (folder / "red" / "broken.jpg").write_bytes(b"not an image")


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The last line of stderr, which says why the job ended."""
        found: dict[str, Any] = json.loads(self.stderr.strip().splitlines()[-1])
        return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "job", *arguments]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, **variables}


def train_arguments(data: str, output: str, work: Path, *settings: str) -> list[str]:
    changes = [f"work_dir={work}", *TINY, *settings]
    return ["train", "--data", data, "--output", output, *(part for one in changes for part in ("--set", one))]


def weights(output: Path) -> list[bytes]:
    """Returns the exported model's variables, sorted: Keras numbers them in another order each time it exports."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(output / "export" / "1" / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return sorted(np.asarray(reader.get_tensor(name)).tobytes() for name in names)


def assert_same_result(first: Path, second: Path) -> None:
    """Asserts that two runs exported the same numbers and report the same scores, bit for bit."""
    a, b = weights(first), weights(second)
    assert len(a) == len(b) > 10
    assert a == b
    reports = [json.loads((output / "report.json").read_text()) for output in (first, second)]
    for part in ("winner", "test", "mistakes"):
        assert reports[0][part] == reports[1][part]
