"""One training as a process of its own: how long it took from start to exit, and what it reached."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_BENCH = Path(__file__).parent


@dataclass(frozen=True)
class Measurement:
    """What one process did.

    Attributes:
        name: "textbook", or the preset.
        seconds: From its start to its exit.
        cpu_s: Processor seconds of it and of the processes it started; other work on the machine changes them little.
        accuracy: On all images of the test folder, 0..1.
        interval: Of the accuracy, 95 %.
        num_images: In the test folder.
        reported: Accuracy in the job's report, which leaves out test images that are, or nearly are, training images;
            None for the textbook.
        stages: Seconds by stage of the job; empty for the textbook.
    """

    name: str
    seed: int
    repeat: int
    seconds: float
    cpu_s: float
    accuracy: float
    interval: tuple[float, float]
    num_images: int
    reported: float | None = None
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What all sides train on: a folder with train/CLASS and test/CLASS, and MobileNetV2's weights.

    Attributes:
        augment: Whether the textbook augments; the presets do as they do.
    """

    data: Path
    weights: Path
    image_px: int
    augment: bool = False


class Stopwatch:
    """Seconds, and processor seconds of finished child processes, since it was made."""

    def __init__(self) -> None:
        self._start_s, self._start_cpu_s = time.monotonic(), _cpu_s()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self._start_s, _cpu_s() - self._start_cpu_s


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def textbook(task: Task, seed: int, repeat: int, folder: Path) -> Measurement:
    """Runs `textbook.py` and reads what it printed."""
    watch = Stopwatch()
    text = _run(
        str(_BENCH / "textbook.py"),
        *("--data", str(task.data), "--weights", str(task.weights), "--output", str(folder / "textbook")),
        *("--image-px", str(task.image_px), "--seed", str(seed), *(["--augment"] if task.augment else [])),
    )
    took = watch.read()
    found = json.loads(text.splitlines()[-1])
    return Measurement(
        "textbook", seed, repeat, *took, found["accuracy"], tuple(found["interval"]), found["num_images"]
    )


def preset(task: Task, name: str, seed: int, repeat: int, folder: Path) -> Measurement:
    """Runs `finetune train` with a preset, with nothing cached; then scores its model as the textbook's is scored."""
    output = folder / name
    watch = Stopwatch()
    train(
        f"output={output}",
        f"data.uri={task.data}",
        "model.backbone=mobilenet_v2",
        f"model.weights={task.weights}",
        f"data.image_px={task.image_px}",
        f"train.preset={name}",
        f"train.seed={seed}",
        f"work_dir={folder / 'work'}",
    )
    took = watch.read()
    report = json.loads((output / "report.json").read_text())
    stages = {stage["name"]: stage["seconds"] for stage in report["stages"]}
    scores = json.loads(_run("-m", "job", "evaluate", "--json", str(output), str(task.data / "test")))
    interval = tuple(scores["intervals"]["accuracy"])
    reported = report["test"]["scores"]["accuracy"]
    return Measurement(name, seed, repeat, *took, scores["accuracy"], interval, scores["num_images"], reported, stages)


def train(*settings: str) -> None:
    """Runs `finetune train` to its end, output and data among the settings."""
    _run("-m", "job", "train", *(part for one in settings for part in ("--set", one)))


def facts() -> dict[str, Any]:
    """Returns what a reader of the figures must know of the machine."""
    from job.dataset.cores import num_cores
    from job.versions import versions

    return {"cores": num_cores(), "versions": versions()}


def _run(*arguments: str) -> str:
    """Returns what a Python process prints.

    Raises:
        SystemExit: When it fails; with what it said last.
    """
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SystemExit(f"python {' '.join(arguments)}\nended with exit code {done.returncode}:\n{said}")
    return done.stdout
