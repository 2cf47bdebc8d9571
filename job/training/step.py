"""Optimizer steps on global batches, on every replica: one in a call, or several where each computes little.

Its rules (TF 2.21 / Keras 3.15; each wrong in `Model.fit` under MirroredStrategy):
  * the loss is summed over examples and divided by the all-reduced count, so a short or padded share
    does not weigh more;
  * gradients are all-reduced first, then clipped, then applied;
  * XLA compiles forward and backward alone: a compiled function lives on one device;
  * a loss or gradient that is not finite is refused before the optimizer moves.

Several steps in a call are a loop inside the graph, as in Keras' `steps_per_execution`: a step on cached features takes
the processor half a millisecond, and Python several times that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from job.dataset.feed import Batch
from job.model import fusing
from job.training.distribution import Distribution

Prepare = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]
"""(inputs, partners, targets, partner targets, randoms) → (what the net takes, targets float32 [b, K])."""


NOT_FINITE = "not finite"
"""Begins the message of a refused step."""

FIGURES = ("loss", "accuracy", "gradient_norm")
"""What a step says of its batch."""


def as_is(inputs: Any, partners: Any, targets: Any, partner_targets: Any, randoms: Any) -> tuple[Any, Any]:
    """The preparation of cached features: nothing is left to do."""
    return inputs, targets


@dataclass(frozen=True, slots=True)
class Placed:
    """Batches whose arrays are on their way to the replicas.

    Attributes:
        shares: This machine's replicas' shares of each array of a `Batch`, and the weights of the examples: [b, ...],
            or [b, at_once, ...] where a call makes several steps.
    """

    batches: tuple[Batch, ...]
    shares: tuple[Any, ...]


class TrainStep:
    """Trains on one batch after the other.

    Args:
        net: Functional Keras model from prepared inputs to logits [b, K], already frozen where it is to be.
        optimizer: Built over `variables`.
        class_weights: float32 [K], mean 1 over the training examples.
        clip_norm: Of the gradient of the mean loss, or None.
        accumulate: Micro-batches a step; the share of each replica is padded to a multiple.
        is_float16: The optimizer scales the loss and skips a step that overflowed.
        at_once: Most steps of a call.
    """

    def __init__(
        self,
        distribution: Distribution,
        net: Any,
        optimizer: Any,
        variables: list[Any],
        *,
        prepare: Prepare,
        class_weights: np.ndarray,
        label_smoothing: float,
        clip_norm: float | None,
        accumulate: int,
        xla: bool,
        is_float16: bool,
        at_once: int = 1,
    ) -> None:
        self._distribution = distribution
        self._net = fusing.training(net, on_cpu=not distribution.has_gpu)
        self._optimizer = optimizer
        self._variables = variables
        self._prepare = prepare
        self._class_weights = tf.constant(class_weights, tf.float32)
        self._label_smoothing = label_smoothing
        self._clip_norm = clip_norm
        self._accumulate = accumulate
        self._is_float16 = is_float16
        self.at_once = at_once
        self._forward_backward = (
            tf.function(self._micro_batch, autograph=False, jit_compile=True) if xla else self._micro_batch
        )
        self._run = tf.function(self._one_step if at_once == 1 else self._several_steps, autograph=False)
        self._traced: Any | None = None
        # Made once: while a tensor is made the thread of the feed may take Python's lock, and keep it for a while.
        self._is_stopping = tuple(distribution.same(np.float32(each)) for each in (False, True))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Trains on one batch; returns what `run` does."""
        return self.run(self.place([batch]))

    def place(self, batches: Sequence[Batch]) -> Placed:
        """Sends batches to the replicas' devices; in a thread of its own, the next ones travel while a step computes.

        Args:
            batches: 1 to `at_once`.
        """
        arrays, *rest = map(_arrays, batches)
        if self.at_once > 1:
            # Always as many, so that the graph is traced once; those behind the last are not looked at.
            missing = [tuple(map(np.zeros_like, arrays))] * (self.at_once - len(batches))
            arrays = tuple(np.stack(parts, axis=1) for parts in zip(arrays, *rest, *missing, strict=True))
        return Placed(tuple(batches), tuple(map(self._distribution.split, arrays)))

    def run(self, placed: Placed, *, is_stopping: bool = False) -> dict[str, Any]:
        """Trains on the batches, one step each.

        Args:
            is_stopping: Whether this worker was asked to stop; all workers learn it with the gradients.

        Returns:
            Scalars float32 on the device, of the last step: loss (mean), accuracy, gradient_norm; stopping, above 0
            where any worker is.

        Raises:
            tf.errors.InvalidArgumentError: When the loss or a gradient is not finite; the step changed nothing.
        """
        num_steps = () if self.at_once == 1 else (tf.constant(len(placed.batches)),)
        arguments = (*placed.shares, self._is_stopping[is_stopping]), *num_steps
        if self._traced is None:
            self._traced = self._run.get_concrete_function(*arguments)
        # Called directly: a tf.function hashes the types of all variables at each call, for a millisecond.
        return dict(self._traced(*arguments))

    def _one_step(self, shares: tuple[Any, ...]) -> dict[str, Any]:
        return self._of_one_replica(self._distribution.run(self._on_replica, shares))

    def _several_steps(self, shares: tuple[Any, ...], num_steps: Any) -> dict[str, Any]:
        def on_replica(number: Any, stopping: Any, *arrays: Any) -> dict[str, Any]:
            parts = [*(array[:, number] for array in arrays), stopping]
            return self._on_replica(*parts)

        def step(number: Any, _: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            *arrays, stopping = shares
            results = self._distribution.run(on_replica, (number, stopping, *arrays))
            return number + 1, self._of_one_replica(results)

        nothing = dict.fromkeys((*FIGURES, "stopping"), 0.0)
        loop = tf.while_loop(lambda number, _: number < num_steps, step, (0, nothing), parallel_iterations=1)
        results: dict[str, Any] = loop[1]
        return results

    def _of_one_replica(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns one replica's results; after the all-reduce they are the same on all."""
        return {name: self._distribution.local_results(value)[0] for name, value in results.items()}

    def _on_replica(
        self, inputs: Any, partners: Any, labels: Any, partner_labels: Any, randoms: Any, weights: Any, stopping: Any
    ) -> dict[str, Any]:
        num_classes = self._class_weights.shape[0]
        targets, partner_targets = (tf.one_hot(each, num_classes) for each in (labels, partner_labels))
        inputs, targets = self._prepare(inputs, partners, targets, partner_targets, randoms)
        smoothing = self._label_smoothing
        targets = targets * (1.0 - smoothing) + smoothing / num_classes
        gradients, sums = self._accumulated(inputs, targets, labels, weights)
        context = tf.distribute.get_replica_context()
        # Every replica must join every all-reduce, in one order.
        sums = tf.concat([sums, [stopping]], axis=0)
        *gradients, sums = context.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, sums])
        loss, correct, count, stopping = tf.unstack(sums)
        gradients = [gradient / count for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        scale = self._optimizer.scale_loss(1.0) if self._is_float16 else 1.0
        if self._clip_norm is not None:
            shrink = tf.minimum(1.0, self._clip_norm * scale / tf.maximum(norm, 1e-12))
            gradients = [gradient * shrink for gradient in gradients]
        # `apply` sums over replicas once more.
        gradients = [gradient / context.num_replicas_in_sync for gradient in gradients]
        # Float16 gradients overflow now and then; Keras's loss scaling skips such a step.
        watched = loss if self._is_float16 else loss + norm
        check = tf.debugging.Assert(
            tf.math.is_finite(watched), [f"{NOT_FINITE}: loss", loss / count, "gradient norm", norm]
        )
        # All of `apply`, not the gradients alone: weight decay does not wait for them.
        with tf.control_dependencies([check]):
            self._optimizer.apply(gradients, self._variables)
        return {"loss": loss / count, "accuracy": correct / count, "gradient_norm": norm / scale, "stopping": stopping}

    def _accumulated(self, inputs: Any, targets: Any, labels: Any, weights: Any) -> tuple[list[Any], Any]:
        """Returns (gradient sums, [loss, correct, count]) of a replica's share, over its micro-batches."""
        if self._accumulate == 1:
            return self._forward_backward(inputs, targets, labels, weights)
        parts = [_micro_batches(each, self._accumulate) for each in (inputs, targets, labels, weights)]
        gradients, sums = self._forward_backward(*(part[0] for part in parts))
        for micro in range(1, self._accumulate):
            more, more_sums = self._forward_backward(*(part[micro] for part in parts))
            gradients = [total + gradient for total, gradient in zip(gradients, more, strict=True)]
            sums = sums + more_sums
        return gradients, sums

    def _micro_batch(self, inputs: Any, targets: Any, labels: Any, weights: Any) -> tuple[list[Any], Any]:
        with tf.GradientTape() as tape:
            logits = tf.cast(self._net(inputs), tf.float32)
            log_probabilities = tf.nn.log_softmax(logits)
            losses = -tf.reduce_sum(targets * self._class_weights * log_probabilities, axis=1) * weights
            loss = tf.reduce_sum(losses)
            target = self._optimizer.scale_loss(loss) if self._is_float16 else loss
        gradients = tape.gradient(target, [variable.value for variable in self._variables])
        hits = tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels), tf.float32)
        return gradients, tf.stack([loss, tf.reduce_sum(hits * weights), tf.reduce_sum(weights)])


def _arrays(batch: Batch) -> tuple[np.ndarray, ...]:
    weights = np.ones(len(batch.indices), np.float32)
    return batch.inputs, batch.partners, batch.labels, batch.partner_labels, batch.randoms, weights


def _micro_batches(values: Any, num: int) -> Any:
    """Returns [num, ceil(b / num), ...] of [b, ...], padded with zeros (examples of weight 0)."""
    rows = -(-values.shape[0] // num)
    short = rows * num - values.shape[0]
    whole = tf.pad(values, [[0, short]] + [[0, 0]] * (len(values.shape) - 1)) if short else values
    return tf.reshape(whole, [num, rows, *values.shape[1:]])
