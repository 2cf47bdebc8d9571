"""Forward passes over many images, on all of this worker's replicas: features, activations, logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from job.model import fusing
from job.training.distribution import Distribution, share_rows

Progress = Callable[[int, int], None]
"""(images done, images in all)."""


class Forward:
    """A compiled function applied batch by batch; results are exact whatever the batch or replicas.

    Args:
        function: (inputs [b, ...], randoms [b, R]) → tuple of tensors [b, ...]; runs on every replica.
        batch: Rows a call over all local replicas.
    """

    def __init__(
        self, distribution: Distribution, function: Callable[[Any, Any], tuple[Any, ...]], *, batch: int
    ) -> None:
        self._distribution = distribution
        self._batch = batch
        self._run = tf.function(lambda inputs, randoms: distribution.run(function, (inputs, randoms)), autograph=False)

    @classmethod
    def through(
        cls, distribution: Distribution, model: Any, *, batch: int, prepare: Callable[[Any, Any], Any] | None = None
    ) -> Self:
        """Returns the pass through a functional model that does not train.

        Args:
            prepare: (inputs [b, ...], randoms [b, R]) → what the model takes; None: the inputs themselves.
        """
        run = fusing.inference(model)
        return cls(
            distribution,
            lambda inputs, randoms: (run(prepare(inputs, randoms) if prepare else inputs),),
            batch=batch,
        )

    def __call__(
        self,
        fetch: Callable[[np.ndarray], np.ndarray],
        indices: np.ndarray,
        randoms: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> Iterator[tuple[slice, tuple[np.ndarray, ...]]]:
        """Yields (rows of `indices`, results float32 [rows, ...]) in order.

        Args:
            fetch: Gives the inputs of some indices.
            randoms: Gives float32 [b, R] of some indices; None passes [b, 0].
        """
        for start in range(0, len(indices), self._batch):
            part = indices[start : start + self._batch]
            numbers = randoms(part) if randoms else np.zeros((len(part), 0), np.float32)
            yield slice(start, start + len(part)), self._batch_of(fetch(part), numbers)
            if on_progress:
                on_progress(start + len(part), len(indices))

    def all(
        self,
        fetch: Callable[[np.ndarray], np.ndarray],
        indices: np.ndarray,
        *,
        on_progress: Progress | None = None,
    ) -> np.ndarray:
        """Returns the first result of all `indices` [M] together: float32 [M, ...]."""
        return np.concatenate([first for _, (first, *_) in self(fetch, indices, on_progress=on_progress)])

    def shared(
        self,
        fetch: Callable[[np.ndarray], np.ndarray],
        indices: np.ndarray,
        *,
        on_progress: Progress | None = None,
    ) -> np.ndarray:
        """As `all`; each worker computes its share of the rows, and all get the same numbers.

        What decides how the training goes on must not differ by the rounding of one worker's processor. Every worker
        must call it.
        """
        distribution = self._distribution
        if distribution.num_workers == 1:
            return self.all(fetch, indices, on_progress=on_progress)
        rows = share_rows(len(indices), distribution.num_workers)
        mine = slice(distribution.worker * rows, (distribution.worker + 1) * rows)
        # A worker with an empty share computes a row for its shape.
        results = self.all(fetch, indices[mine] if len(indices[mine]) else indices[:1], on_progress=on_progress)
        whole = np.zeros((len(indices), *results.shape[1:]), np.float32)
        whole[mine] = results[: len(whole[mine])]
        return distribution.sum_over_workers(whole)

    def in_shares(
        self,
        fetch: Callable[[np.ndarray], np.ndarray],
        indices: np.ndarray,
        randoms: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        first: int = 0,
        on_progress: Progress | None = None,
    ) -> Iterator[tuple[int, list[tuple[slice, np.ndarray]]]]:
        """Yields (rows of each share done, their first results) batch by batch; the same on every worker.

        Each worker computes its share of the rows, as in `shared`, and gets what the others computed meanwhile.

        Args:
            first: Rows of each share that are done already.
        """
        distribution, num = self._distribution, len(indices)
        size = share_rows(num, distribution.num_workers)
        starts = [worker * size for worker in range(distribution.num_workers)]
        for done in range(first, size, self._batch):
            end = min(done + self._batch, size)
            parts = [slice(min(start + done, num), min(start + end, num)) for start in starts]
            mine = parts[distribution.worker]
            # A worker with an empty share computes a row for its shape.
            rows = indices[mine] if mine.stop > mine.start else indices[:1]
            results = self._batch_of(fetch(rows), randoms(rows) if randoms else np.zeros((len(rows), 0), np.float32))[0]
            yield end, list(zip(parts, self._heard(parts, results, end - done), strict=True))
            if on_progress:
                on_progress(min(end * len(starts), num), num)

    def _heard(self, parts: Sequence[slice], mine: np.ndarray, num_rows: int) -> list[np.ndarray]:
        """Returns the rows of every worker's part, this one's being the first of `mine`."""
        if len(parts) == 1:
            return [mine]
        worker = self._distribution.worker
        nums = [part.stop - part.start for part in parts]
        together = np.zeros((len(parts), num_rows, *mine.shape[1:]), np.float32)
        together[worker, : nums[worker]] = mine[: nums[worker]]
        together = self._distribution.sum_over_workers(together)
        return [rows[:num] for rows, num in zip(together, nums, strict=True)]

    def _batch_of(self, inputs: np.ndarray, randoms: np.ndarray) -> tuple[np.ndarray, ...]:
        num = len(inputs)
        # A short last batch is filled up, so that the function is compiled for one shape.
        whole = [_filled(each, self._batch) for each in (inputs, randoms)]
        results = self._run(*(self._distribution.split_locally(each) for each in whole))
        return tuple(self._joined(result)[:num] for result in results)

    def _joined(self, result: Any) -> np.ndarray:
        parts: Sequence[Any] = self._distribution.local_results(result)
        return np.concatenate([tf.cast(part, tf.float32).numpy() for part in parts])


def _filled(rows: np.ndarray, num: int) -> np.ndarray:
    if len(rows) == num:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], num - len(rows), axis=0)])
