"""Fine-tuning from a block boundary beside Keras' `fit` with the same layers frozen, on the same batches.

Without augmentation both take the same steps from the same weights (the probe's), so their losses must be equal, and
the job is as much faster as the trunk's work that it does once. Its features are counted in, from one pass over
everything. With augmentation the job trains on the cached views of `balanced`; `fit` gets the job's own augmentation,
in its input pipeline, on all cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jobs
import numpy as np
import photographs
import room
import tensorflow as tf
import turns
from room import Setup
from rows import Limit, Row

from job.dataset.example import Split
from job.dataset.feed import Feed
from job.evaluation.calibration import calibrated_log_loss
from job.malloc import keep_freed_memory
from job.model import cut as cuts
from job.model import freezing
from job.training import optimizer
from job.training.recipe import PRESETS
from job.training.study import Study

UNFREEZE = 1 / 3
OFF = ("augment.flip=false", "augment.crop_scale=1", "augment.color=0")
SAME_STEPS = (
    "train.head.enabled=false",
    "train.label_smoothing=0",
    "model.dropout=0",
    f"train.finetune.unfreeze={UNFREEZE}",
    "train.finetune.patience=1000",
    "train.finetune.clip_norm=1000000",
)
"""What `fit` can do as well: no smoothing, nothing random in front of the head, no clipping, all epochs."""

SMALL_RATE = "train.finetune.learning_rate=1e-5"
"""Where losses are compared: at the preset's rate two `fit` whose first weights differ by 1e-7 end 8e-2 nats apart
after six epochs, at this one 6e-5."""

EQUAL_NATS = 2e-3
"""Rounding, grown over some 200 steps; the losses of two seeds differ by hundredths."""

Result = tuple[float, float]
"""(seconds, log loss on validation with the weights of the last step)"""


def ours(study: Study) -> Result:
    """Trains; the probe's seconds are left out, its features counted in."""
    progress = study.run()
    spent_s = study.workspace.timings.seconds
    took_s = sum(spent_s[name] for name in ("features", "finetune", "checkpoint"))
    study_logits = study.logits(study.dataset.indices(Split.VALIDATION))
    assert progress.finished[-1].name == "finetune"
    return took_s, loss_of(study, study_logits)


def loss_of(study: Study, logits: np.ndarray) -> float:
    return calibrated_log_loss(logits, study.dataset.labels[study.dataset.indices(Split.VALIDATION)])


def fit(study: Study, probed: Study) -> Result:
    """Trains the same phase with `fit`, on the job's batches in their order, from the probe's weights."""
    (phase,) = study.recipe.phases
    model = study.model
    for variable, value in zip(model.variables, probed.model.variables, strict=True):
        variable.assign(value)
    cut = cuts.cut_for_share(model, study.backbone, phase.unfreeze)
    freezing.freeze(model, cut, batchnorm=phase.batchnorm)
    train = study.dataset.indices(Split.TRAIN)
    feed = Feed(train, study.dataset.labels, lambda i, _: study.dataset.pixels.gather(i), batch=jobs.BATCH, seed=0)
    pixels, labels = jobs.pixels_and_labels(study, Split.VALIDATION)
    steps_an_epoch = phase.eval_steps
    with turns.watch() as took:
        jobs.compile_for_fit(model, optimizer.build(phase, freezing.layer_groups(model, cut), is_float16=False))
        model.fit(
            stream(study, feed, phase.num_steps, is_augmented=study.recipe.augmentation.flip),
            steps_per_epoch=steps_an_epoch,
            epochs=phase.num_steps // steps_an_epoch,
            validation_data=jobs.batches(pixels, labels, study),
            verbose=0,
        )
    return took.seconds, loss_of(study, model.predict(study.views.plain(pixels), verbose=0))


def stream(study: Study, feed: Feed, num_steps: int, *, is_augmented: bool) -> Any:
    """Returns the feed's batches as a tf.data set: (float32 [B, image_px, image_px, 3], labels [B])."""
    px, randoms = study.dataset.pixels.gather(np.array([0])).shape[1], feed.batch(0).randoms.shape[1]

    def batches() -> Any:
        # A generator of tf.data sets malloc's threshold back, to 128 KiB (its ApplyPython311MemoryPatch), on which
        # `fit` would take 1.5 times as long.
        keep_freed_memory()
        for batch in jobs.one_by_one(feed, 0, num_steps):
            yield batch.inputs, batch.labels, batch.randoms

    signature = (
        tf.TensorSpec([jobs.BATCH, px, px, 3], tf.uint8),
        tf.TensorSpec([jobs.BATCH], tf.int32),
        tf.TensorSpec([jobs.BATCH, randoms], tf.float32),
    )
    found = tf.data.Dataset.from_generator(batches, output_signature=signature)

    def prepared(images: Any, labels: Any, numbers: Any) -> tuple[Any, Any]:
        return (study.views.augmented(images, numbers) if is_augmented else study.views.plain(images)), labels

    return found.map(prepared, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def work(study: Study, num_views: int) -> tuple[float, float]:
    """Returns the multiplications of (the job, `fit`) over the phase, in forward passes of one image.

    A trained layer costs three passes, one forward and two backward. Validation counts, and so do the features: the
    job looks at validation once more, before the first step.
    """
    (phase,) = study.recipe.phases
    top = 1 - cuts.cut_for_share(study.model, study.backbone, phase.unfreeze).flops_below
    num_train, num_val = (len(study.dataset.indices(split)) for split in (Split.TRAIN, Split.VALIDATION))
    seen, looks = phase.num_steps * jobs.BATCH, phase.num_steps // phase.eval_steps
    features = num_train + num_val + (num_views - 1) * num_train * (1 - top)
    return features + 3 * top * seen + (looks + 1) * num_val * top, (1 + 2 * top) * seen + looks * num_val


def compared(setup: Setup, settings: list[str], make_row: Callable[[Study, Any, Any], list[Row]]) -> list[Row]:
    images = photographs.folder(setup, num=setup.size(80, 720))
    made = [*photographs.settings(setup, image_px=setup.size(64, 96)), *SAME_STEPS, *settings]
    probed = jobs.trainer(setup.folder, images, [*made, "train.finetune.enabled=false"])
    probed.apply(probed.run().finished[0].weights)
    last = jobs.trainer(setup.folder, images, made)
    found = turns.interleaved(
        {
            "ours": lambda: ours(jobs.trainer(setup.folder, images, made)),
            "fit": lambda: fit(jobs.trainer(setup.folder, images, made), probed),
        },
        repeats=setup.size(1, 3),
    )
    return make_row(last, found["ours"], found["fit"])


def plain(setup: Setup) -> list[Row]:
    epochs = setup.size(2, 6)
    settings = [*OFF, SMALL_RATE, "train.finetune.views=1", f"train.finetune.epochs={epochs}"]

    def rows(study: Study, mine: tuple[Result, ...], theirs: tuple[Result, ...]) -> list[Row]:
        job_work, fit_work = work(study, 1)
        faster = fit_work / job_work
        (ours_s, losses), (fit_s, fit_losses) = (tuple(zip(*side, strict=True)) for side in (mine, theirs))
        seen = study.recipe.phases[0].num_steps * jobs.BATCH
        note = f"{study.backbone.name}, top third, {epochs} epochs, {study.views.image_px} px"
        return [
            Row(
                "fine-tune",
                "without augmentation, speed beside `fit`",
                "images/s",
                turns.rates(seen, ours_s),
                turns.rates(seen, fit_s),
                Limit("ratio", round(0.8 * faster, 3), at_least=True),
                f"{note}; {faster:.2f} times fewer multiplications, 0.8 of that",
            ),
            Row(
                "fine-tune",
                "its validation log loss, as far from `fit`'s",
                "nats",
                tuple(abs(a - b) for a, b in zip(losses, fit_losses, strict=True)),
                (),
                Limit("value", EQUAL_NATS),
                f"`fit`: {fit_losses[0]:.5f}",
            ),
        ]

    return compared(setup, settings, rows)


def augmented(setup: Setup) -> list[Row]:
    found = []
    preset = PRESETS["balanced"].finetune
    assert preset is not None
    for views, epochs, name, limit in (
        (
            preset.views,
            setup.size(2, round(preset.epochs)),
            "cached views of `balanced`",
            Limit("ratio", 1.3, at_least=True),
        ),
        (0, setup.size(2, 3), "augmented afresh", None),
    ):
        settings = [f"train.finetune.views={views}", f"train.finetune.epochs={epochs}"]

        found += compared(setup, settings, partial(speed, f"{name}, speed beside `fit`", limit, f"{epochs} epochs"))
    return found


def speed(name: str, limit: Limit | None, note: str, study: Study, mine: Any, theirs: Any) -> list[Row]:
    seen = study.recipe.phases[0].num_steps * jobs.BATCH
    ours_s, fit_s = (tuple(one[0] for one in side) for side in (mine, theirs))
    return [Row("fine-tune", name, "images/s", turns.rates(seen, ours_s), turns.rates(seen, fit_s), limit, note)]


def measure(setup: Setup) -> list[Row]:
    return [*plain(setup), *augmented(setup)]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
