"""TensorBoard: what is written, under which name. One event file of a run, mirrored to its output.

Scalars are written when their value is fetched anyway, so that no step waits for its own loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from job.config import TelemetryConfig

NUM_SAMPLE_IMAGES = 16


class Meter:
    """Images/s and the share of time spent waiting for input, since the last reading."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._waited_s = 0.0
        self._images = 0

    def waiting(self, seconds: float) -> None:
        self._waited_s += seconds

    def step(self, images: int) -> None:
        self._images += images

    def read(self) -> dict[str, float]:
        """Returns {"images_per_s", "input_wait"} and starts anew."""
        seconds = max(self._clock() - self._start, 1e-9)
        figures = {"images_per_s": self._images / seconds, "input_wait": min(self._waited_s / seconds, 1.0)}
        self._start, self._waited_s, self._images = self._clock(), 0.0, 0
        return figures


class Telemetry:
    """Writes event files to a local folder; nothing where this worker does not write.

    Args:
        folder: Made if needed.
        writes: Whether this worker is the chief.
    """

    def __init__(self, folder: Path, config: TelemetryConfig, *, writes: bool = True) -> None:
        self._config = config
        self._folder = folder
        self._profiling = False
        self._writer = tf.summary.create_file_writer(str(folder)) if writes else tf.summary.create_noop_writer()
        self._writes = writes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the event file."""
        self.stop_profiler()
        self._writer.close()

    @property
    def every_steps(self) -> int:
        """Steps from one point of the curves to the next."""
        return self._config.every_steps

    def is_due(self, step: int) -> bool:
        """Whether the curves get a point after this many steps of the phase."""
        return step % self.every_steps == 0

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        self._writer.flush()

    def text(self, name: str, markdown: str) -> None:
        with self._writer.as_default():
            tf.summary.text(name, markdown, step=0)
        self._writer.flush()

    def images(self, name: str, images: np.ndarray, *, step: int = 0, max_outputs: int = NUM_SAMPLE_IMAGES) -> None:
        """Writes pictures.

        Args:
            images: uint8 [B, H, W, 3].
        """
        with self._writer.as_default():
            tf.summary.image(name, images, step=step, max_outputs=max_outputs)
        self._writer.flush()

    def hyperparameters(self, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Writes a row of the HParams page: the settings and the scores they led to."""
        if not self._writes:
            return
        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in values.items()
        }
        with self._writer.as_default():
            # Without this the page lists the curves of the training first, and leaves every value blank where the
            # log folder is the run's own (TensorBoard 2.21: the run is then called ".").
            hparams.hparams_config([hparams.HParam(name) for name in plain], [hparams.Metric(name) for name in metrics])
            hparams.hparams(plain)
            for name, value in metrics.items():
                tf.summary.scalar(name, value, step=0)
        self._writer.flush()

    def profile(self, step: int) -> None:
        """Starts or stops the profiler as `telemetry.profile_steps` says; called before each fine-tuning step."""
        if self._config.profile_steps is None or not self._writes:
            return
        first, last = self._config.profile_steps
        if step == first and not self._profiling:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        elif step > last:
            self.stop_profiler()

    def marked(self, step: int) -> AbstractContextManager[object]:
        """Marks what happens inside as one step for the profiler.

        The Profile page divides what was recorded by these marks, and knows no step time without them.
        Source: tensorflow.org/guide/profiler, "Profiling custom training loops".
        """
        if not self._profiling:
            return nullcontext()
        mark: AbstractContextManager[object] = tf.profiler.experimental.Trace("train", step_num=step, _r=1)
        return mark

    def stop_profiler(self) -> None:
        if self._profiling:
            tf.profiler.experimental.stop()
            self._profiling = False
