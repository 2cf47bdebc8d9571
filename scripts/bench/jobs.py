"""A training as the job makes it, in this process, ready to run; and Keras' `fit` on the same network and images."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

# As `job/quiet.py` has them; rooms import this one before NumPy.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

from job import config as configs
from job.console import console
from job.dataset.example import Split
from job.dataset.feed import Batch, Feed
from job.interruption import Stop
from job.malloc import keep_freed_memory
from job.platforms import Platform
from job.stages import prepare, train
from job.stages.together import Machines
from job.training.study import Study
from job.versions import versions
from job.workspace import Workspace

BATCH = 32
keep_freed_memory()
tf.get_logger().setLevel("ERROR")
_numbers = itertools.count()


def trainer(folder: Path, images: Path, settings: Sequence[str]) -> Study:
    """Returns a new training on a data set that is surveyed and packed; no feature is computed yet."""
    run = folder / f"run-{next(_numbers)}"
    wanted = [f"data.uri={images}", f"output={run / 'out'}", f"work_dir={run / 'work'}", f"train.batch={BATCH}"]
    workspace = Workspace.open(
        configs.load(None, [*wanted, *settings]), Platform("laptop"), console(io.StringIO()), Stop(grace_s=1000)
    )
    workspace.begin(versions())
    machines = Machines(workspace)
    return train.trainer(workspace, machines, prepare.dataset(workspace, machines.share))


def pixels_and_labels(study: Study, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns (uint8 [N, S, S, 3], int32 [N]) of a split, in memory."""
    indices = study.dataset.indices(split)
    return study.dataset.pixels.gather(indices), study.dataset.labels[indices]


def batches(pixels: np.ndarray, labels: np.ndarray, study: Study, *, shuffled: bool = False) -> Any:
    """Returns a tf.data set of (float32 [B, image_px, image_px, 3], labels [B]) in memory, prefetched."""
    found = tf.data.Dataset.from_tensor_slices((pixels, labels))
    if shuffled:
        found = found.shuffle(len(labels), seed=0)
    found = found.batch(BATCH).map(lambda images, labels: (study.views.plain(images), labels))
    return found.prefetch(2)


def one_by_one(feed: Feed, first: int, last: int) -> Iterator[Batch]:
    """Yields the batches of the steps [first, last), fetched ahead."""
    return feed.batches((range(step, step + 1) for step in range(first, last)), itemgetter(0))


def compile_for_fit(model: Any, optimizer: Any) -> None:
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
