"""From packed images to batches, beside `keras.utils.image_dataset_from_directory` with Keras' augmentation layers.

Both give batches of augmented images at the same size with the same kinds of change: flip, crop, brightness, contrast,
saturation. Keras reads files that the system holds in memory; its layers run in the input pipeline on all cores.
Without augmentation the job's feed is a copy out of the pack: images a second of processor time, which is what a GPU's
host has of it for each core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jobs
import keras
import numpy as np
import photographs
import room
import tensorflow as tf
import turns
from room import Setup
from rows import Limit, Row

from job.config import DataConfig
from job.dataset import prepare
from job.dataset.example import Split
from job.dataset.feed import Feed
from job.dataset.pack import PackedPixels
from job.training.recipe import PRESETS
from job.training.views import Views

CROP, COLOR = 0.5, 0.2
"""`balanced`'s; held equal to the preset below."""


def ours(images: Path, work_dir: Path, image_px: int) -> Callable[[int], float]:
    """Returns what makes a number of augmented batches and returns their seconds, the first batch left out."""
    found = prepare.prepare(DataConfig(), dataset_dir=images, work_dir=work_dir, stored_px=image_px, seed=0)
    augmentation = PRESETS["balanced"].augmentation
    assert (augmentation.crop_scale, augmentation.color) == (CROP, COLOR)
    augmented = tf.function(Views(0, image_px, augmentation).augmented, autograph=False)
    feed = Feed(found.indices(Split.TRAIN), found.labels, lambda i, _: found.pixels.gather(i), batch=jobs.BATCH, seed=0)

    def batches(num: int) -> Any:
        return (
            augmented(tf.constant(batch.inputs), tf.constant(batch.randoms)) for batch in jobs.one_by_one(feed, 0, num)
        )

    return lambda num: timed(batches(num + 1))


def timed(batches: Any) -> float:
    next(batches)
    with turns.watch() as took:
        for _ in batches:
            pass
    return took.seconds


def theirs(images: Path, image_px: int) -> Callable[[int], float]:
    size = (image_px, image_px)
    found = keras.utils.image_dataset_from_directory(images, image_size=size, batch_size=jobs.BATCH, verbose=False)
    # A crop of half the area and more leaves 0.7 of a side and more.
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomZoom((-(1 - CROP**0.5), 0.0)),
        keras.layers.RandomBrightness(COLOR),
        keras.layers.RandomContrast(COLOR),
        keras.layers.RandomSaturation((0.5 - COLOR / 2, 0.5 + COLOR / 2)),
    ]

    def augmented(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    batches = found.repeat().map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    # An iterator of its own each time: one that is left waiting would go on filling its buffer in the other's turn.
    return lambda num: timed(islice(iter(batches), num + 1))


def copied(setup: Setup, image_px: int) -> list[float]:
    """Returns images a second of processor time out of a pack, of several rounds, without augmentation."""
    num = setup.size(64, 1600)
    path = setup.folder / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (num, image_px, image_px, 3), np.uint8))
    pixels = PackedPixels(path)
    feed = Feed(np.arange(num), np.zeros(num, np.int32), lambda i, _: pixels.gather(i), batch=jobs.BATCH, seed=0)
    num_steps = num // jobs.BATCH
    found = []
    for turn in range(setup.size(2, 5)):
        with turns.watch() as took:
            for _ in jobs.one_by_one(feed, turn * num_steps, (turn + 1) * num_steps):
                pass
        found.append(num_steps * jobs.BATCH / took.cpu_s)
    return found


def measure(setup: Setup) -> list[Row]:
    image_px = setup.size(64, 160)
    images = photographs.large(setup, num=setup.size(80, 600))
    sides = {"ours": ours(images, setup.folder / "work", image_px), "keras": theirs(images, image_px)}
    num = setup.size(4, 60)
    took = turns.interleaved(
        {name: partial(work, num) for name, work in sides.items()},
        repeats=setup.size(2, 5),
    )
    shown = num * jobs.BATCH
    return [
        Row(
            "feed",
            "augmented, beside image_dataset_from_directory and Keras' layers",
            "images/s",
            turns.rates(shown, took["ours"]),
            turns.rates(shown, took["keras"]),
            Limit("ratio", 5.0, at_least=True),
            f"{image_px} px, batch {jobs.BATCH}",
        ),
        Row(
            "feed",
            "without augmentation",
            "images/s/core",
            tuple(copied(setup, 224)),
            (),
            Limit("value", 10_000, at_least=True),
            "224 px",
        ),
    ]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
