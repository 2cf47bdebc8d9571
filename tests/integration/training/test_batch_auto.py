"""`train.batch: auto` against a real limit of memory, and what is remembered of it."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import job.demo
from job import config as configs
from job import rundir
from job.console import console
from job.errors import JobError
from job.interruption import Stop
from job.platforms import Platform
from job.stages import prepare, train
from job.stages.together import Machines
from job.training.batch_search import Spec, Trials
from job.versions import versions
from job.workspace import Workspace

SETTINGS = (
    "model.backbone=mobilenet_025",
    "data.image_px=64",
    "train.strategy=single",
    "train.head.enabled=false",
    "train.finetune.unfreeze=1",
    "train.finetune.views=0",
)
SEARCH = """
import json, sys
from job.training.batch_search import Spec, Trials, largest
with Trials(Spec(**json.load(sys.stdin))) as trials:
    found = largest(trials, first=4096, unit=256, most=4096)
print(json.dumps([found, trials.tried]))
"""
LIMIT_BYTES = 2300 << 20
"""Measured: TensorFlow takes 1.4 GB of address space and a batch of 256 makes it 2.0. One of 1,024 makes it 2.9 on one
processor and less than 2.3 on another, whose kernels want less; one of 4,096 is too much for both."""


def spec(*overrides: str) -> Spec:
    config = configs.load(None, [*SETTINGS, *overrides]).model_dump(mode="json")
    return Spec(config, backbone_path=None, num_train=4000, num_known=5000, num_classes=3)


def searched(*, limit_bytes: int) -> list[Any]:
    """Returns [found, tried] of a search in a process, and so in children, whose address space is limited."""

    def limited() -> None:
        # A processor more is some hundred megabytes of address space for the threads that TensorFlow starts on it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [sys.executable, "-c", SEARCH],
        input=json.dumps(asdict(spec())),
        preexec_fn=limited,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_search_finds_the_limit_of_memory_by_running_into_it() -> None:
    found, tried = searched(limit_bytes=LIMIT_BYTES)
    assert tried["4096"] is False
    assert tried[str(found)] is True
    assert 256 <= found < 4096
    # The control: with more memory the same batch fits.
    assert searched(limit_bytes=8 * LIMIT_BYTES) == [4096, {"4096": True}]


def test_a_trial_that_fails_for_another_reason_is_no_limit() -> None:
    with Trials(spec("model.backbone=no_such_network")) as trials, pytest.raises(JobError, match="no_such_network"):
        trials(32)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("amber", "green"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def batch_of(images: Path, folder: Path, work: Path) -> int:
    settings = [
        f"data.uri={images}",
        f"output={folder}",
        f"work_dir={work}",
        "model.backbone=mobilenet_025",
        f"model.weights={Path(job.demo.__file__).with_name('backbone.weights.h5')}",
        "data.image_px=32",
        "train.batch=auto",
    ]
    workspace = Workspace.open(
        configs.load(None, settings), Platform("laptop"), console(io.StringIO()), Stop(grace_s=1000)
    )
    workspace.begin(versions())
    return train.trainer(workspace, Machines(workspace), prepare.dataset(workspace)).recipe.batch


def test_without_a_gpu_auto_is_the_presets_batch_and_a_restart_elsewhere_has_what_the_run_began_with(
    images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert batch_of(images, output, tmp_path / "work") == 32
    assert json.loads((output / rundir.BATCH).read_text()) == {"batch": 32, "gpus": 0, "tried": {}}
    # As a machine with a GPU would have left it.
    (output / rundir.BATCH).write_text(json.dumps({"batch": 24, "gpus": 1, "tried": {"24": True}}))
    assert batch_of(images, output, tmp_path / "elsewhere") == 24
