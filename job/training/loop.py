"""The training loop: steps, looks at validation, checkpoints, stops. Everything around it is Keras."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
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
from job.training.spans import spans
from job.training.step import FIGURES, NOT_FINITE, Placed, TrainStep
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
        offset = _iterations(task.optimizer) - progress.step
        for placed in self._placed(task, progress, meter):
            num_steps, num_images = len(placed.batches), len(placed.batches[0].indices)
            if phase.name == "finetune":
                self._telemetry.profile(progress.step)
            refusing = functools.partial(self._refusing, placed.batches, task, first=progress.step, offset=offset)
            with refusing(), self._telemetry.marked(progress.step):
                results = task.train_step.run(placed, is_stopping=self._stop.requested)
            meter.step(num_steps * num_images)
            progress.step += num_steps
            progress.total_steps += num_steps
            is_due = self._telemetry.is_due(progress.step)
            if is_due or progress.step % phase.eval_steps == 0 or progress.step == phase.num_steps:
                with refusing():
                    figures = self._figures(results, task)
                self._telemetry.scalars(
                    {f"{phase.name}/{name}": value for name, value in {**figures, **meter.read()}.items()},
                    step=progress.total_steps,
                )
                bar.update(progress.step * num_images, phase.num_steps * num_images, loss=figures["loss"])
            if progress.step % phase.eval_steps == 0 or progress.step == phase.num_steps:
                self._validate(task, progress)
                assert progress.best is not None
                if progress.step - progress.best.step >= phase.patience_steps:
                    break
            is_stopping = self._is_stopping(results, task)
            if is_stopping or self._is_save_due(progress, saved_s):
                # A step that diverged unnoticed on a GPU must not be saved.
                with refusing():
                    self._figures(results, task)
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

    def _placed(self, task: Task, progress: Progress, meter: Meter) -> Iterator[Placed]:
        """Yields what is left of the phase, in spans that end wherever the loop has something to look at."""
        ends = [task.phase.eval_steps, self._telemetry.every_steps, self._config.every_steps or task.phase.num_steps]
        left = spans(progress.step, task.phase.num_steps, at_once=task.train_step.at_once, ends=ends)
        placed = task.feed.batches(left, task.train_step.place)
        while True:
            start = self._clock()
            batches = next(placed, None)
            meter.waiting(self._clock() - start)
            if batches is None:
                return
            yield batches

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

    def _figures(self, results: dict[str, Any], task: Task) -> dict[str, float]:
        """Fetches the step's numbers: on a GPU an error of the running graph comes to light here."""
        figures = {name: float(results[name]) for name in FIGURES}
        return {**figures, "learning_rate": float(task.optimizer.learning_rate)}

    @contextmanager
    def _refusing(self, batches: Sequence[Batch], task: Task, *, first: int, offset: int) -> Iterator[None]:
        """Turns the refusal of a number that is not finite into an error that names the images.

        Args:
            batches: Of the steps from `first` on.
            offset: What the optimizer counts beyond the steps of the phase.
        """
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            reason = next((line for line in error.message.splitlines() if NOT_FINITE in line), None)
            if reason is None:
                raise
            reason = reason[reason.index(NOT_FINITE) :].translate(_NO_BRACKETS)
            # The optimizer counted the steps before the refused one.
            place = min(max(_iterations(task.optimizer) - offset - first, 0), len(batches) - 1)
            names = task.names(batches[place].indices)
            more = ", …" if len(names) > NUM_NAMED_IMAGES else ""
            raise DivergedError(
                f"The training diverged: {reason} at or before step {first + place + 1} of "
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
    inner = _inner(optimizer)
    if not inner.use_ema or not _iterations(optimizer):
        yield
        return
    raw = [variable.numpy() for variable in variables]
    inner.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)


def _inner(optimizer: Any) -> Any:
    """Returns the optimizer itself, inside of what scales its loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _iterations(optimizer: Any) -> int:
    return int(_inner(optimizer).iterations.numpy())
