"""The training loop: steps, looks at validation, checkpoints, stops. Everything around it is Keras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from job.config import CheckpointConfig
from job.console import Bar
from job.dataset.feed import Batch, Feed
from job.errors import DivergedError
from job.interruption import Stop
from job.timings import Timings
from job.training.checkpoint import Checkpoints, state_of
from job.training.progress import Progress, Trained, Weights
from job.training.recipe import Phase
from job.training.step import FIGURES, NOT_FINITE, TrainStep
from job.training.telemetry import Meter, Telemetry

NUM_NAMED_IMAGES = 8
"""Images of a diverged batch that the error names."""

_NO_BRACKETS = str.maketrans("", "", "[]")
"""TensorFlow puts every part of a failed assertion in brackets."""


@dataclass(frozen=True)
class Task:
    """What a phase trains, and how its result is measured.

    Attributes:
        net: Keras model that the step trains; its variables are what a checkpoint holds.
        variables: The trainable ones, as the optimizer was built over.
        snapshot: Returns the weights to keep when this moment is the best.
        val_logits: Returns float32 [M, K] on the validation split with the weights of the moment.
        val_loss: (logits, labels) → calibrated log loss.
        names: Row of the dataset → image uri.
        is_shared: Whether other machines train with this one.
    """

    phase: Phase
    net: Any
    optimizer: Any
    variables: list[Any]
    train_step: TrainStep
    feed: Feed
    snapshot: Callable[[], Weights]
    val_logits: Callable[[], np.ndarray]
    val_labels: np.ndarray
    val_loss: Callable[[np.ndarray, np.ndarray], float]
    names: Callable[[np.ndarray], list[str]]
    is_shared: bool = False


class Loop:
    """Runs one phase after another on one set of checkpoints."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        telemetry: Telemetry,
        stop: Stop,
        config: CheckpointConfig,
        timings: Timings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoints = checkpoints
        self._telemetry = telemetry
        self._stop = stop
        self._config = config
        self._timings = timings
        self._clock = clock

    def run(self, task: Task, progress: Progress, saved: Path | None, bar: Bar) -> None:
        """Trains a phase from where the progress stands to its end; the best moment becomes a finished one.

        Args:
            saved: The checkpoint that the progress is of, where it is of one.

        Raises:
            StoppedError: After saving, when the job was asked to stop.
            DivergedError: When a loss or gradient is not finite. Names the step and its images.
        """
        phase = task.phase
        state = state_of(task.net, task.optimizer)
        resumes = progress.phase == phase.name and progress.step > 0
        progress.begin(phase.name)
        if resumes:
            assert saved is not None
            self._checkpoints.restore(saved, state)
        else:
            self._validate(task, progress)
        meter, saved_s = Meter(), self._clock()
        for batch in self._batches(task, progress, meter):
            if phase.name == "finetune":
                self._telemetry.profile(progress.step)
            with self._refusing(batch, task, step=progress.step + 1), self._telemetry.marked(progress.step):
                results = task.train_step(batch, is_stopping=self._stop.requested)
            meter.step(len(batch.indices))
            progress.step += 1
            progress.total_steps += 1
            is_due = self._telemetry.is_due(progress.step)
            if is_due or progress.step % phase.eval_steps == 0 or progress.step == phase.num_steps:
                figures = self._figures(results, batch, task, step=progress.step)
                self._telemetry.scalars(
                    {f"{phase.name}/{name}": value for name, value in {**figures, **meter.read()}.items()},
                    step=progress.total_steps,
                )
                bar.update(
                    progress.step * len(batch.indices), phase.num_steps * len(batch.indices), loss=figures["loss"]
                )
            if progress.step % phase.eval_steps == 0 or progress.step == phase.num_steps:
                self._validate(task, progress)
                assert progress.best is not None
                if progress.step - progress.best.step >= phase.patience_steps:
                    break
            is_stopping = self._is_stopping(results, task)
            if is_stopping or self._is_save_due(progress, saved_s):
                # A step that diverged unnoticed on a GPU must not be saved.
                self._figures(results, batch, task, step=progress.step)
                if self._stop.may_write:
                    with self._timings.stage("checkpoint"):
                        self._checkpoints.save(progress, state)
                    saved_s = self._clock()
                if is_stopping:
                    self._checkpoints.wait()
                    self._stop.check(f"{phase.name}, step {progress.step} of {phase.num_steps} (saved)")
        self._telemetry.stop_profiler()
        progress.end()
        with self._timings.stage("checkpoint"):
            self._checkpoints.save(progress, None)

    def _is_stopping(self, results: dict[str, Any], task: Task) -> bool:
        """Whether this machine, or any that trains with it, was asked to stop before this step.

        All workers must leave after the same step: whoever went on would wait for the others for ever.
        """
        if not task.is_shared:
            return self._stop.requested
        if float(results["stopping"]) > 0:
            self._stop.request()
            return True
        return False

    def _batches(self, task: Task, progress: Progress, meter: Meter) -> Iterator[Batch]:
        batches = task.feed.batches(progress.step, task.phase.num_steps)
        while True:
            start = self._clock()
            batch = next(batches, None)
            meter.waiting(self._clock() - start)
            if batch is None:
                return
            yield batch

    def _validate(self, task: Task, progress: Progress) -> None:
        with averaged(task.optimizer, task.variables):
            logits = task.val_logits()
            loss = task.val_loss(logits, task.val_labels)
            accuracy = float(np.mean(logits.argmax(axis=1) == task.val_labels))
            if loss < progress.best_loss:
                progress.best_loss = loss
                progress.best = Trained(task.phase.name, progress.step, task.snapshot(), logits)
        self._telemetry.scalars(
            {f"{task.phase.name}/val_loss": loss, f"{task.phase.name}/val_accuracy": accuracy},
            step=progress.total_steps,
        )

    def _figures(self, results: dict[str, Any], batch: Batch, task: Task, *, step: int) -> dict[str, float]:
        """Fetches the step's numbers: on a GPU an error of the running graph comes to light here."""
        with self._refusing(batch, task, step=step):
            figures = {name: float(results[name]) for name in FIGURES}
        learning_rate = task.optimizer.learning_rate
        return {**figures, "learning_rate": float(learning_rate)}

    @contextmanager
    def _refusing(self, batch: Batch, task: Task, *, step: int) -> Iterator[None]:
        """Turns the step's refusal of a number that is not finite into an error that names the images."""
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            reason = next((line for line in error.message.splitlines() if NOT_FINITE in line), None)
            if reason is None:
                raise
            reason = reason[reason.index(NOT_FINITE) :].translate(_NO_BRACKETS)
            names = task.names(batch.indices)
            more = ", …" if len(names) > NUM_NAMED_IMAGES else ""
            raise DivergedError(
                f"The training diverged: {reason} at or before step {step} of "
                f"{task.phase.name}; its images are {', '.join(names[:NUM_NAMED_IMAGES])}{more}",
                images=names,
                next_step=f"Lower train.{task.phase.name}.learning_rate ({task.phase.learning_rate:.2g}), or set "
                "train.precision=float32.",
            ) from error

    def _is_save_due(self, progress: Progress, saved_s: float) -> bool:
        steps = self._config.every_steps
        if steps is not None and progress.step % steps == 0:
            return True
        # One that comes by time can wait a step for the one before it to be written.
        return self._clock() - saved_s >= self._config.every_s and not self._checkpoints.is_writing


@contextmanager
def averaged(optimizer: Any, variables: list[Any]) -> Iterator[None]:
    """Puts the averaged weights in place for its block, where the optimizer keeps them (EMA)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.use_ema or not int(inner.iterations.numpy()):
        yield
        return
    raw = [variable.numpy() for variable in variables]
    inner.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)
