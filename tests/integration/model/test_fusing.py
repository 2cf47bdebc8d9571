"""Fused forward passes and training steps are the model's own, for graphs of all kinds, and do less."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.model import backbones, cut, freezing, fusing

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


@pytest.mark.parametrize("batchnorm", ["frozen", "trained"])
@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("name", ["mobilenet_v2_035", "resnet50", "xception", "densenet121", "convnext_tiny"])
def test_gradients_are_the_models_own(
    name: str, on_cpu: bool, batchnorm: Any, live: Callable[..., Any], pixels: np.ndarray
) -> None:
    model = live(name, dropout=0.0)
    size = model.inputs[0].shape[1]
    images = tf.constant(np.resize(pixels, (4, size, size, 3)), tf.float32)
    freezing.freeze(model, cut.cut_for_share(model, backbones.get(name), 0.5), batchnorm=batchnorm)
    start = model.get_weights()
    own, own_gradients = _gradients(lambda inputs: model(inputs, training=True), model, images)
    own_after = model.get_weights()
    model.set_weights(start)
    found, gradients = _gradients(fusing.training(model, on_cpu=on_cpu), model, images)
    np.testing.assert_allclose(found, own, atol=3e-4 * np.abs(own).max())
    # An offset before another BatchNorm has no gradient but rounding.
    rounding = 1e-5 * max(map(np.linalg.norm, own_gradients))
    # Where rounding decides the side of a ReLU all gradients behind it move, and few pixels of such small images are
    # left: by 2.5 % at most as seen, of a network without ReLU not at all. A scale gone wrong moves them by far more.
    for one, other, variable in zip(gradients, own_gradients, model.trainable_variables, strict=True):
        assert np.linalg.norm(one - other) <= 0.05 * np.linalg.norm(other) + rounding, variable.path
    is_changed = [not np.array_equal(a, b) for a, b in zip(start, own_after, strict=True)]
    assert any(is_changed) == (batchnorm == "trained" and name != "convnext_tiny")
    for one, other in zip(model.get_weights(), own_after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_products_of_matrices_have_the_convolutions_gradients(live: Callable[..., Any], pixels: np.ndarray) -> None:
    model = live("mobilenet_v2_035", dropout=0.0)
    side = model.inputs[0].shape[1]
    images = tf.constant(np.resize(pixels, (4, side, side, 3)), tf.float32)
    freezing.freeze(model, cut.cut_for_share(model, backbones.get("mobilenet_v2_035"), 0.5), batchnorm="frozen")
    found = [_gradients(fusing.training(model, on_cpu=on_cpu), model, images) for on_cpu in (True, False)]
    (logits, products), (expected, convolutions) = found
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    for one, other, variable in zip(products, convolutions, model.trainable_variables, strict=True):
        assert np.linalg.norm(one - other) <= 1e-3 * np.linalg.norm(other), variable.path


def _gradients(function: Callable[[Any], Any], model: Any, images: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns (logits, the gradients of their weighted sum by the trainable variables)."""

    @tf.function(autograph=False)
    def computed(images: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            logits = function(images)
            # Linear: a softmax of random weights saturates, and its gradients are differences of equal numbers.
            total = tf.reduce_sum(logits * [1.0, -1.0, 0.5])
        return logits, tape.gradient(total, [variable.value for variable in model.trainable_variables])

    logits, gradients = computed(images)
    return logits.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


@pytest.mark.parametrize(("on_cpu", "num_pointwise"), [(True, 0), (False, 34)])
def test_of_a_mobilenet_no_padding_is_left_and_on_a_cpu_no_convolution_of_one_by_one(
    on_cpu: bool, num_pointwise: int, live: Callable[..., Any]
) -> None:
    model = live("mobilenet_v2_035")
    side = model.inputs[0].shape[1]
    spec = tf.TensorSpec([4, side, side, 3], tf.float32)
    run = tf.function(fusing.training(model, on_cpu=on_cpu), autograph=False)
    operations = run.get_concrete_function(spec).graph.get_operations()
    kernels = [op.inputs[1].shape[:2].as_list() for op in operations if op.type == "Conv2D"]
    assert (kernels.count([1, 1]), kernels.count([3, 3])) == (num_pointwise, 1)
    assert sum(op.type.startswith("Pad") for op in operations) == 0


@pytest.mark.parametrize("on_cpu", [True, False])
def test_strides_groups_biases_activations_and_shared_layers_keep_their_meaning(on_cpu: bool) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 7, 4))
    zeros = keras.layers.ZeroPadding2D(((1, 2), (0, 3)))(inputs)
    first = keras.layers.Conv2D(6, 3, strides=2, activation="relu", bias_initializer="ones")(zeros)
    # Of its two readers one would not see the zeros.
    second = keras.layers.AveragePooling2D(3, 2)(zeros)
    pointwise = keras.layers.Conv2D(6, 1, strides=2, padding="same", activation="tanh", bias_initializer="ones")
    grouped = keras.layers.Conv2D(6, 1, groups=2, bias_initializer="ones")
    third = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(keras.layers.ZeroPadding2D(1)(first))
    normed = keras.layers.BatchNormalization(moving_mean_initializer="ones")(third)
    outputs = [pointwise(first), pointwise(keras.layers.Conv2D(6, 1)(second)), grouped(pointwise(first))]
    pooled = [keras.layers.GlobalMaxPooling2D()(each) for each in (*outputs, normed)]
    model = keras.Model(inputs, keras.layers.Concatenate()(pooled))
    next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)).trainable = False
    images = np.random.default_rng(0).uniform(size=(4, 9, 7, 4)).astype(np.float32)
    expected = model(images, training=True)
    np.testing.assert_allclose(fusing.training(model, on_cpu=on_cpu)(tf.constant(images)), expected, atol=1e-6)
    np.testing.assert_allclose(fusing.inference(model)(tf.constant(images)), expected, atol=1e-6)


COMPILED = """
import keras, numpy as np, tensorflow as tf
from job.model import fusing
keras.utils.set_random_seed(0)
tensor = inputs = keras.Input((32, 32, 3))
for kind, zeros in (("conv", 2), ("depthwise", ((0, 1), (0, 1))), ("depthwise", 1)):
    tensor = keras.layers.ZeroPadding2D(zeros)(tensor)
    layer = keras.layers.Conv2D(8, 5, strides=2) if kind == "conv" else keras.layers.DepthwiseConv2D(3, strides=2)
    tensor = keras.layers.BatchNormalization(beta_initializer="ones")(layer(tensor))
    tensor = keras.layers.ReLU(6.0)(tensor)
model = keras.Model(inputs, keras.layers.Flatten()(tensor))
for layer in model.layers:
    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
images = tf.random.stateless_uniform((4, 32, 32, 3), (0, 0))
def gradients(function):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(images) ** 2)
    return tape.gradient(total, [variable.value for variable in model.trainable_variables])
expected, own = model(images), gradients(model)
assert np.ptp(expected) > 1 and min(map(tf.norm, own)) > 1, "the network is dead"
found = tf.function(fusing.inference(model))(images)
trained = fusing.training(model, on_cpu=True)
np.testing.assert_allclose(found, expected, atol=1e-4)
for one, other in zip(tf.function(lambda: gradients(trained))(), own, strict=True):
    assert tf.norm(one - other) <= 1e-3 * tf.norm(other)
print("SAME", sum(op.type.startswith("Pad") for op in
    tf.function(trained).get_concrete_function(images).graph.get_operations()))
"""


@pytest.mark.parametrize("has_onednn", ["0", "1"])
def test_compiled_with_and_without_onednn_the_numbers_are_the_models_own(has_onednn: str) -> None:
    """In processes of their own: TensorFlow reads the variable once. Its own choice depends on the processor."""
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": has_onednn}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # The zeros that are not "SAME" stay before their depthwise convolution.
    assert done.stdout.split() == ["SAME", "1"]
