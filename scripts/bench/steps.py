"""One phase of training steps on one batch's worth of images, ready to be run by the job's loop or without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import turns

from job.config import CheckpointConfig, TelemetryConfig
from job.dataset.example import Split
from job.dataset.feed import Feed
from job.model import cut as cuts
from job.model import freezing
from job.storage import at
from job.storage.mirror import Mirror
from job.training import optimizer
from job.training.checkpoint import Checkpoints
from job.training.loop import Loop, Task
from job.training.progress import Progress
from job.training.recipe import Phase
from job.training.spans import steps_at_once
from job.training.step import TrainStep, as_is
from job.training.study import Study
from job.training.telemetry import Telemetry

_NEVER = 10**9


@dataclass
class Steps:
    """The steps of a fine-tuning or a head that trains a study's model.

    Validation is a look at one image whose logits are made up: what it costs is no part of a step.

    Attributes:
        is_head: Whether the head trains on pooled features; otherwise the backbone's top trains on the images.
    """

    study: Study
    is_head: bool = False

    def __post_init__(self) -> None:
        study, recipe = self.study, self.study.recipe
        self.phase: Phase = recipe.phases[-1]
        model, distribution = study.model, study.distribution
        cut = cuts.features_cut(model) if self.is_head else cuts.cut_for_share(model, study.backbone, 1 / 3)
        freezing.freeze(model, cut, batchnorm="frozen")
        net = cuts.split(model, cut)[1] if self.is_head else model
        groups = freezing.layer_groups(model, cut)
        variables = [variable for group in groups for variable in group]
        with distribution.strategy.scope():
            built = optimizer.build(self.phase, groups, is_float16=False)
        examples, num_classes = study.dataset.indices(Split.TRAIN), len(study.dataset.classes)
        features = np.random.default_rng(0).random((len(study.dataset.rows), *cut.shape), np.float32)
        gather = study.dataset.pixels.gather
        step = TrainStep(
            distribution,
            net,
            built,
            variables,
            prepare=as_is if self.is_head else study.views.afresh(),
            class_weights=np.ones(num_classes, np.float32),
            label_smoothing=recipe.label_smoothing,
            clip_norm=self.phase.clip_norm,
            accumulate=1,
            xla=False,
            is_float16=False,
            at_once=steps_at_once(features.nbytes // len(features) * recipe.batch) if self.is_head else 1,
        )
        nothing = np.zeros((1, num_classes), np.float32)
        self.task = Task(
            phase=self.phase,
            net=net,
            optimizer=built,
            variables=variables,
            train_step=step,
            feed=Feed(
                examples,
                study.dataset.labels,
                (lambda indices, _: features[indices]) if self.is_head else (lambda indices, _: gather(indices)),
                batch=recipe.batch,
                seed=0,
            ),
            snapshot=dict,
            val_logits=lambda: nothing,
            val_labels=np.zeros(1, np.int32),
            val_loss=lambda logits, labels: 0.0,
            names=lambda indices: [],
        )
        self.looped(2)  # traces and compiles
        self._bare = tf.function(self._in_a_graph, autograph=False)
        self._batch = self._shares()
        self.bare(1)

    def looped(self, num_steps: int, *, folder: Path | None = None, checkpoint_s: float = _NEVER) -> float:
        """Returns the seconds of the job's loop over some steps.

        Args:
            folder: Where checkpoints, logs and their mirror go; None does without all three.
            checkpoint_s: Seconds between two checkpoints.
        """
        study, keeps = self.study, folder is not None
        where = folder or study.workspace.folder
        workspace = study.workspace
        output = at(str(where / "output"))
        telemetry = Telemetry(where / "logs", TelemetryConfig(every_steps=10 if keeps else _NEVER), writes=keeps)
        checkpoints = Checkpoints(where, output, keep=2, writes=keeps, on_error=workspace.console.warn)
        config = CheckpointConfig(every_s=checkpoint_s)
        phase = replace(self.phase, num_steps=num_steps, eval_steps=num_steps, patience_steps=_NEVER)
        loop = Loop(checkpoints, telemetry, workspace.stop, config, workspace.timings)
        with turns.watch() as took:
            with workspace.bar("bench", unit="images") as bar, _mirrored(where, output, keeps):
                loop.run(replace(self.task, phase=phase), Progress(), None, bar)
                checkpoints.wait()
            telemetry.close()
        return took.seconds

    def bare(self, num_steps: int) -> float:
        """Returns the seconds of `strategy.run` of the same step as often on one batch, in a loop inside a graph."""
        with turns.watch() as took:
            float(self._bare(self._batch, tf.constant(num_steps)))
        return took.seconds

    def _shares(self) -> tuple[Any, ...]:
        batch, distribution = self.task.feed.batch(0), self.study.distribution
        weights = np.ones(len(batch.indices), np.float32)
        arrays = (batch.inputs, batch.partners, batch.labels, batch.partner_labels, batch.randoms, weights)
        return (*(distribution.split(array) for array in arrays), distribution.same(np.float32(0.0)))

    def _in_a_graph(self, shares: tuple[Any, ...], num_steps: Any) -> Any:
        step, distribution = self.task.train_step, self.study.distribution

        def once(number: Any, _: Any) -> tuple[Any, Any]:
            # The step's own inside: what the loop calls through a tf.function from Python.
            results = distribution.run(step._on_replica, shares)
            return number + 1, distribution.local_results(results["loss"])[0]

        return tf.while_loop(lambda number, _: number < num_steps, once, (0, 0.0), parallel_iterations=1)[1]


@contextmanager
def _mirrored(folder: Path, output: Any, keeps: bool) -> Iterator[None]:
    if not keeps:
        yield
        return
    with Mirror(folder / "logs", output, prefix="logs", every_s=5.0):
        yield
