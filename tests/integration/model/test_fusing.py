"""A forward pass with folded BatchNorms is the model's own, for graphs of all kinds, and does less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.model import fusing

# BatchNorm after convolutions without and with a bias, depthwise, after separable ones (not folded), before
# convolutions (not folded), and none at all.
KINDS = ["mobilenet_v2_035", "resnet50", "efficientnet_v2_b0", "xception", "densenet121", "convnext_tiny"]


@pytest.mark.parametrize("name", KINDS)
def test_the_folded_pass_is_the_models_own(name: str, live: Callable[..., Any], pixels: np.ndarray) -> None:
    model = live(name)
    size = model.inputs[0].shape[1]
    images = np.resize(pixels, (4, size, size, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1, "the network is dead: the comparison would prove nothing"
    found = fusing.inference(model)(tf.constant(images)).numpy()
    # Rounding: 1.04e-4 for 53 layers without training on one processor, less on others.
    np.testing.assert_allclose(found, expected, atol=3e-4 * np.abs(expected).max())


def test_no_batchnorm_of_a_mobilenet_is_left(live: Callable[..., Any]) -> None:
    model = live("mobilenet_v2_035")
    side = model.inputs[0].shape[1]
    as_it_is, folded = (
        _products_of_maps(function, side)
        for function in (lambda images: model(images, training=False), fusing.inference(model))
    )
    assert (as_it_is, folded) == (52, 0)


def _products_of_maps(function: Callable[[Any], Any], side: int) -> int:
    """Returns how often whole feature maps are multiplied: once a BatchNorm."""
    spec = tf.TensorSpec([4, side, side, 3], tf.float32)
    graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
    products = [op for op in graph.get_operations() if op.type == "Mul" and op.outputs[0].shape.rank == 4]
    # Preprocessing multiplies the image, and scales of depthwise kernels have four dimensions but no batch.
    return sum(op.outputs[0].shape[0] == 4 and op.outputs[0].shape[-1] != 3 for op in products)


def test_folding_follows_the_variables(live: Callable[..., Any], pixels: np.ndarray) -> None:
    model = live("mobilenet_v2_035")
    size = model.inputs[0].shape[1]
    images = tf.constant(np.resize(pixels, (4, size, size, 3)), tf.float32)
    run = tf.function(fusing.inference(model), autograph=False)
    before = run(images).numpy()
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    kept = norm.get_weights()
    norm.set_weights([2 * kept[0], *kept[1:]])
    after, expected = run(images).numpy(), model(images, training=False).numpy()
    norm.set_weights(kept)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([], id="folded"),
        pytest.param([keras.layers.ReLU()], id="an activation between"),
    ],
)
def test_what_augments_and_drops_in_training_does_nothing(between: list[Any]) -> None:
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.RandomFlip(),
        keras.layers.Conv2D(4, 3, bias_initializer="ones"),
        *between,
        keras.layers.BatchNormalization(scale=False, moving_mean_initializer="ones"),
        keras.layers.Dropout(0.5),
    ]
    model = keras.Sequential(layers)
    functional = keras.Model(model.inputs[0], model.outputs[0])
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        fusing.inference(functional)(tf.constant(images)), functional(images, training=False), atol=1e-6
    )


def test_a_convolution_with_two_readers_keeps_its_own_numbers() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(4, 3)(inputs)
    normed = keras.layers.BatchNormalization(moving_mean_initializer="ones")(shared)
    model = keras.Model(inputs, keras.layers.Add()([shared, normed]))
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(fusing.inference(model)(tf.constant(images)), model(images, training=False), atol=1e-6)
