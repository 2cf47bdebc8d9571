"""What is frozen is done once: the probe beside one bare forward pass, and the head beside `fit` on the frozen model.

The probe is all that the job does for it: features of every training and validation image, the regression, its
checkpoint, and compiling, of which the bare pass is spared. The head's ten epochs are shown by themselves, as a phase
that finds its features there, and with probe and features counted in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import jobs
import keras
import numpy as np
import photographs
import room
import tensorflow as tf
import turns
from room import Setup
from rows import Limit, Row

from job.dataset.example import Split
from job.model import cut as cuts
from job.model import freezing
from job.training.study import Study

EPOCHS = 10
LEARNING_RATE = 1e-3
"""Of `fit`, Adam. Source: https://keras.io/guides/transfer_learning"""


def probe(setup: Setup) -> Row:
    images = photographs.folder(setup, num=setup.size(60, 720))
    px = setup.size(64, 160)
    settings = [*photographs.settings(setup, image_px=px, is_live=False), "train.preset=fast"]

    def ours() -> float:
        return turns.seconds(jobs.trainer(setup.folder, images, settings).run)

    study = jobs.trainer(setup.folder, images, settings)
    indices = np.concatenate([study.dataset.indices(split) for split in (Split.TRAIN, Split.VALIDATION)])
    pixels = study.dataset.pixels.gather(indices)
    bare = min((bare_pass(study, pixels, batch) for batch in setup.size((32,), (16, 32, 64, 128))), key=turns.seconds)
    found = turns.interleaved({"ours": ours, "bare": lambda: turns.seconds(bare)}, repeats=setup.size(1, 5))
    note = f"{study.backbone.name}, {len(indices)} images, {px} px"
    return Row("probe", "probe beside a bare pass", "s", found["ours"], found["bare"], Limit("ratio", 1.1), note)


def bare_pass(study: Study, pixels: np.ndarray, batch: int) -> Callable[[], None]:
    """Returns the pass over uint8 [N, S, S, 3] in memory, compiled, in whole batches."""
    trunk, _ = cuts.split(study.model, cuts.features_cut(study.model))
    run = tf.function(lambda images: trunk(study.views.plain(images), training=False), autograph=False)
    padded = np.concatenate([pixels, pixels[: -len(pixels) % batch]])
    parts = [tf.constant(padded[start : start + batch]) for start in range(0, len(padded), batch)]
    run(parts[0])

    def work() -> None:
        for part in parts:
            run(part).numpy()

    return work


def head(setup: Setup) -> list[Row]:
    images = photographs.folder(setup, num=setup.size(60, 720))
    px = setup.size(64, 128)
    settings = [
        *photographs.settings(setup, image_px=px),
        "train.finetune.enabled=false",
        f"train.head.epochs={setup.size(2, EPOCHS)}",
        f"train.head.patience={EPOCHS}",
    ]

    def ours() -> tuple[float, float, float]:
        study = jobs.trainer(setup.folder, images, settings)
        with turns.watch() as took:
            progress = study.run()
        labels = study.dataset.labels[study.dataset.indices(Split.VALIDATION)]
        best = progress.finished[-1].val_logits.argmax(axis=1)
        return study.workspace.timings.seconds["head"], took.seconds, float((best == labels).mean())

    def fit() -> tuple[float, float]:
        study = jobs.trainer(setup.folder, images, settings)
        freezing.freeze(study.model, None, batchnorm="frozen")
        train = jobs.batches(*jobs.pixels_and_labels(study, Split.TRAIN), study, shuffled=True)
        validation = jobs.batches(*jobs.pixels_and_labels(study, Split.VALIDATION), study)
        with turns.watch() as took:
            jobs.compile_for_fit(study.model, keras.optimizers.Adam(LEARNING_RATE))
            epochs = setup.size(2, EPOCHS)
            history = study.model.fit(train, validation_data=validation, epochs=epochs, verbose=0)
        return took.seconds, max(history.history["val_accuracy"])

    found = turns.interleaved({"ours": ours, "fit": fit}, repeats=setup.size(1, 2))
    (head_s, all_s, accuracy), (fit_s, their_accuracy) = (zip(*found[side], strict=True) for side in ("ours", "fit"))
    note = f"{setup.size(2, EPOCHS)} epochs, {px} px"
    return [
        Row(
            "head",
            "speed beside `fit` on the frozen model",
            "runs/s",
            turns.rates(1, head_s),
            turns.rates(1, fit_s),
            Limit("ratio", 10.0, at_least=True),
            note,
        ),
        Row(
            "head",
            "the same, probe and features counted in",
            "runs/s",
            turns.rates(1, all_s),
            turns.rates(1, fit_s),
            None,
            note,
        ),
        Row(
            "head",
            "validation accuracy, beside `fit`'s best epoch",
            "",
            accuracy,
            their_accuracy,
            Limit("excess", 0.0, at_least=True),
            note,
        ),
    ]


def measure(setup: Setup) -> list[Row]:
    return [probe(setup), *head(setup)]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
