"""Step number in, batch out. There is no shuffle buffer and no iterator to save.

Training reads one endless stream of positions: step s takes positions s*B .. s*B+B-1, position p is
the (p mod N)-th of epoch p // N, and a counter-based permutation keyed by (seed, epoch) says which
example stands there. So resuming at any step is exact, every batch is full, and the global batch is
the same for any number of replicas. All randomness of an example is a pure function of
(seed, epoch, index).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf

Prepared = TypeVar("Prepared")

NUM_RANDOMS = 32
"""Uniform numbers an example may use in one view."""

_ROUNDS = 4
"""Of the cipher; what tf.random.experimental.index_shuffle uses."""

Fetch = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(example indices int64 [B], epochs int64 [B]) → inputs [B, ...]: pixels or cached features."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One global batch.

    Attributes:
        indices: int64 [B], rows of the dataset.
        inputs: [B, ...]: uint8 pixels [B, S, S, 3] or float32 features.
        partners: As inputs, the examples to mix with; [B, 0] where nothing is mixed.
        labels: int32 [B].
        partner_labels: int32 [B]; equal to labels where nothing is mixed.
        randoms: float32 [B, NUM_RANDOMS] in [0, 1).
    """

    indices: np.ndarray
    inputs: np.ndarray
    partners: np.ndarray
    labels: np.ndarray
    partner_labels: np.ndarray
    randoms: np.ndarray


class Feed:
    """The training batches of a phase.

    Args:
        examples: int64 [N], the rows of the training split.
        labels: int32, by row of the dataset.
        fetch: Gives the inputs; called from a background thread.
        batch: Global batch B.
        mixes: Whether each example comes with a partner.
        fed: The rows of a batch that this machine feeds; inputs and random numbers of the others, which it has no use
            for, are zeros.
    """

    def __init__(
        self,
        examples: np.ndarray,
        labels: np.ndarray,
        fetch: Fetch,
        *,
        batch: int,
        seed: int,
        mixes: bool = False,
        fed: slice = slice(None),
    ) -> None:
        assert len(examples) > 0
        self._examples = examples
        self._labels = labels
        self._fetch = fetch
        self._batch = batch
        self._seed = seed
        self._mixes = mixes
        self._fed = fed

    def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (rows of the dataset int64 [B], epochs int64 [B]) of a step."""
        positions = np.arange(step * self._batch, (step + 1) * self._batch, dtype=np.int64)
        return self._at(positions, salt=0)

    def batch(self, step: int) -> Batch:
        indices, epochs = self.indices(step)
        inputs = self._inputs(indices, epochs)
        labels = self._labels[indices]
        # Microseconds an image: of 64 machines' batch they would be much of a step.
        randoms = self._whole(uniforms(self._seed, epochs[self._fed], indices[self._fed]), len(indices))
        if not self._mixes:
            nothing = np.zeros((len(indices), 0), inputs.dtype)
            return Batch(indices, inputs, nothing, labels, labels, randoms)
        positions = np.arange(step * self._batch, (step + 1) * self._batch, dtype=np.int64)
        partners, partner_epochs = self._at(positions, salt=1)
        return Batch(indices, inputs, self._inputs(partners, partner_epochs), labels, self._labels[partners], randoms)

    def batches(
        self, spans: Iterable[range], prepare: Callable[[list[Batch]], Prepared], *, ahead: int = 3
    ) -> Iterator[Prepared]:
        """Yields the prepared batches of each span of steps, fetched and prepared ahead in one background thread."""

        def work(span: range) -> Prepared:
            return prepare([self.batch(step) for step in span])

        with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            queue: deque[Future[Prepared]] = deque()
            for span in spans:
                queue.append(pool.submit(work, span))
                if len(queue) > ahead:
                    yield queue.popleft().result()
            try:
                while queue:
                    yield queue.popleft().result()
            finally:
                for future in queue:
                    future.cancel()

    def _inputs(self, indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        return self._whole(self._fetch(indices[self._fed], epochs[self._fed]), len(indices))

    def _whole(self, fed: np.ndarray, num: int) -> np.ndarray:
        """Returns [num, ...] with the rows that this machine feeds in their place, zeros elsewhere."""
        if len(fed) == num:
            return fed
        whole = np.zeros((num, *fed.shape[1:]), fed.dtype)
        whole[self._fed] = fed
        return whole

    def _at(self, positions: np.ndarray, *, salt: int) -> tuple[np.ndarray, np.ndarray]:
        num = len(self._examples)
        epochs = positions // num
        seeds = np.stack([np.full_like(epochs, self._seed), epochs, np.full_like(epochs, salt)], axis=1)
        # The raw op: tf.random.experimental.index_shuffle, around it, refuses a seed an index (TF 2.21).
        with tf.device("CPU:0"):
            order = tf.raw_ops.RandomIndexShuffle(
                index=positions % num, seed=seeds, max_index=np.full_like(epochs, num - 1), rounds=_ROUNDS
            )
        return self._examples[order.numpy()], epochs


def uniforms(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns float32 [B, NUM_RANDOMS] in [0, 1): a pure function of (seed, epoch, index) an example.

    Source: Philox 4x64, a counter-based generator (Salmon et al. 2011), as numpy ships it.
    """
    bits = np.random.Philox(key=seed)
    generator, state = np.random.Generator(bits), bits.state
    counter = state["state"]["counter"]
    randoms = np.empty((len(indices), NUM_RANDOMS), np.float32)
    for row, epoch, index in zip(randoms, epochs.tolist(), indices.tolist(), strict=True):
        # Three microseconds; a generator of its own for each takes twelve.
        counter[2:] = epoch, index
        bits.state = state
        generator.random(out=row, dtype=np.float32)
    return randoms
