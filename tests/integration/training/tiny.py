"""The smallest things the training can be shown with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.dataset.feed import Feed
from job.training import optimizer
from job.training.distribution import Distribution
from job.training.recipe import Phase
from job.training.step import TrainStep, as_is

N, D, K = 37, 6, 3
SINGLE = Distribution(tf.distribute.get_strategy(), "single", num_replicas=1, num_local=1)

PHASE = Phase(
    name="head",
    num_steps=12,
    eval_steps=4,
    patience_steps=100,
    optimizer="adamw",
    learning_rate=0.05,
    warmup_steps=0,
    weight_decay=0.01,
    layer_decay=1.0,
    clip_norm=1.0,
    ema=0.0,
    views=1,
    unfreeze=0.0,
    batchnorm="frozen",
)


def phase(**changes: Any) -> Phase:
    return replace(PHASE, **changes)


def data(*, poison: int | None = None, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (features float32 [N, D], labels int32 [N]); one row is infinite where asked for."""
    rng = np.random.default_rng(0)
    features = (scale * rng.normal(size=(N, D))).astype(np.float32)
    labels = features[:, :K].argmax(axis=1).astype(np.int32)
    if poison is not None:
        features[poison] = np.inf
    return features, labels


def net(*, dropout: float = 0.0, seed: int = 0, policy: str = "float32") -> Any:
    """Returns a network of two dense layers with dropout between them."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((D,))
    hidden = keras.layers.Dense(8, activation="tanh", dtype=policy)(inputs)
    dropped = keras.layers.Dropout(dropout, seed=5)(hidden)
    return keras.Model(inputs, keras.layers.Dense(K, dtype=policy)(dropped))


def groups(model: Any) -> list[list[Any]]:
    """Returns its variables, the upper layer first."""
    return [model.layers[-1].trainable_variables, model.layers[1].trainable_variables]


def feed(features: np.ndarray, labels: np.ndarray, *, batch: int = 8) -> Feed:
    return Feed(np.arange(N), labels, lambda indices, _: features[indices], batch=batch, seed=3)


def train_step(model: Any, numbers: Phase, **changes: Any) -> tuple[TrainStep, Any]:
    """Returns (a step on one device, its optimizer)."""
    is_float16 = changes.get("is_float16", False)
    built = optimizer.build(numbers, groups(model), is_float16=is_float16)
    settings: dict[str, Any] = {
        "prepare": as_is,
        "class_weights": np.ones(K, np.float32),
        "label_smoothing": 0.0,
        "clip_norm": numbers.clip_norm,
        "accumulate": 1,
        "xla": False,
        "is_float16": False,
    }
    variables = [variable for group in groups(model) for variable in group]
    return TrainStep(SINGLE, model, built, variables, **{**settings, **changes}), built


def values(model: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.variables]
