"""The optimizer of a phase: Keras's own, with a learning rate a layer and a schedule of the step number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from job.training.recipe import Phase


def build(phase: Phase, groups: Sequence[Sequence[Any]], *, is_float16: bool) -> Any:
    """Returns a built Keras optimizer over all variables of `groups`.

    Args:
        groups: Trainable variables by block, from the head downwards; group g trains at
            `learning_rate * layer_decay**g`.
        is_float16: Wraps it in Keras's dynamic loss scaling.
    """
    variables = [variable for group in groups for variable in group]
    factors = [phase.layer_decay**depth for depth, group in enumerate(groups) for _ in group]
    optimizer: Any = _CLASSES[phase.optimizer](
        schedule(phase),
        factors,
        phase.weight_decay,
        **({"use_ema": True, "ema_momentum": phase.ema} if phase.ema else {}),
    )
    # Biases and normalisation are one-dimensional: decay there only shrinks the scale of a layer.
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) <= 1])
    if is_float16:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def schedule(phase: Phase) -> Any:
    """Returns linear warm-up from 0, then cosine to 0, as a function of the step: nothing to save."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if phase.warmup_steps else phase.learning_rate,
        decay_steps=max(phase.num_steps - phase.warmup_steps, 1),
        warmup_target=phase.learning_rate if phase.warmup_steps else None,
        warmup_steps=phase.warmup_steps,
    )


class _LayerDecay:
    """Scales the learning rate of each variable; weight decay keeps the common rate.

    Keras has no rate a variable; `update_step` is the place it documents for changing an update.
    """

    _factors: Sequence[float] = ()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        factor = self._factors[self._get_variable_index(variable)]  # type: ignore[attr-defined]  # Keras's
        super().update_step(gradient, variable, learning_rate * factor)  # type: ignore[misc]  # Keras's


class _AdamW(_LayerDecay, keras.optimizers.AdamW):  # type: ignore[misc]  # Keras is untyped
    def __init__(self, learning_rate: Any, factors: Sequence[float], weight_decay: float, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, name="adamw", **kwargs)
        self._factors = tuple(factors)


class _Adam(_LayerDecay, keras.optimizers.Adam):  # type: ignore[misc]  # Keras is untyped
    def __init__(self, learning_rate: Any, factors: Sequence[float], weight_decay: float, **kwargs: Any) -> None:
        super().__init__(learning_rate, name="adam", **kwargs)
        self._factors = tuple(factors)


class _SGD(_LayerDecay, keras.optimizers.SGD):  # type: ignore[misc]  # Keras is untyped
    def __init__(self, learning_rate: Any, factors: Sequence[float], weight_decay: float, **kwargs: Any) -> None:
        super().__init__(learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay, name="sgd", **kwargs)
        self._factors = tuple(factors)


_CLASSES = {"adamw": _AdamW, "adam": _Adam, "sgd": _SGD}
