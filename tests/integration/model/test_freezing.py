"""What a training step may change, above and below the cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.model import backbones, cut
from job.model.freezing import MAX_GROUPS, freeze, layer_groups

ROW = backbones.get("mobilenet_v2_035")


@pytest.fixture
def model(live: Callable[..., Any]) -> Any:
    return live(ROW.name)


def _step(model: Any, pixels: np.ndarray) -> dict[str, float]:
    """Takes one step of gradient descent in training mode and returns how far every variable moved, by path."""
    before = {variable.path: variable.numpy() for variable in model.weights}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(pixels, training=True) - 1.0))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    return {variable.path: float(np.abs(variable.numpy() - before[variable.path]).max()) for variable in model.weights}


def _statistics(moved: dict[str, float]) -> list[float]:
    return [distance for path, distance in moved.items() if "moving_" in path]


def test_frozen_batchnorm_keeps_its_statistics_in_a_training_step(model: Any, pixels: np.ndarray) -> None:
    freeze(model, cut.cut_for_share(model, ROW, 1.0), batchnorm="frozen")
    moved = _step(model, pixels * 0.5)
    assert len(_statistics(moved)) == 104
    assert max(_statistics(moved)) == 0
    assert not any("gamma" in variable.path or "beta" in variable.path for variable in model.trainable_variables)
    assert moved["logits/kernel"] > 1e-3
    assert moved["Conv1/kernel"] > 0, "the control does not move"


def test_trained_batchnorm_moves_its_statistics(model: Any, pixels: np.ndarray) -> None:
    freeze(model, cut.cut_for_share(model, ROW, 1.0), batchnorm="trained")
    moved = _step(model, pixels * 0.5)
    assert min(_statistics(moved)) > 0


def test_nothing_below_the_cut_moves(model: Any, pixels: np.ndarray) -> None:
    place = cut.cut_for_share(model, ROW, 1 / 3)
    freeze(model, place, batchnorm="trained")
    trunk, top = cut.split(model, place)
    below = {variable.path for variable in trunk.weights}
    moved = _step(model, pixels)
    assert len(below) > 20
    assert max(moved[path] for path in below) == 0
    assert all(moved[variable.path] > 0 for variable in top.weights)


def test_without_a_cut_only_the_head_trains(model: Any, pixels: np.ndarray) -> None:
    freeze(model, None, batchnorm="trained")
    moved = _step(model, pixels)
    assert {path for path, distance in moved.items() if distance} == {"logits/kernel", "logits/bias"}
    assert layer_groups(model, None) == [[model.get_layer("logits").kernel, model.get_layer("logits").bias]]


def test_freezing_again_replaces_the_first(model: Any) -> None:
    freeze(model, None, batchnorm="frozen")
    freeze(model, cut.cut_for_share(model, ROW, 1.0), batchnorm="trained")
    assert len(model.trainable_variables) == sum("moving_" not in variable.path for variable in model.weights)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_groups_hold_every_trainable_variable_once_from_the_head_down(model: Any, share: float) -> None:
    place = cut.cut_for_share(model, ROW, share)
    freeze(model, place, batchnorm="frozen")
    groups = layer_groups(model, place)
    grouped = [id(variable) for group in groups for variable in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(variable) for variable in model.trainable_variables}
    assert all(groups)
    assert 2 <= len(groups) <= MAX_GROUPS + 1
    assert [variable.path for variable in groups[0]] == ["logits/kernel", "logits/bias"]
    position = {id(variable): number for number, variable in enumerate(model.weights)}
    lowest = [min(position[id(variable)] for variable in group) for group in groups]
    assert lowest == sorted(lowest, reverse=True)
    assert any(variable.path == "Conv_1/kernel" for variable in groups[1])


def test_dropout_masks_in_the_trunk_stop_with_training_false(live: Callable[..., Any], pixels: np.ndarray) -> None:
    row, model = backbones.get("efficientnet_v2_b0"), live("efficientnet_v2_b0")
    trunk, _ = cut.split(model, cut.cut_for_share(model, row, 0.25))
    freeze(model, None, batchnorm="frozen")
    np.testing.assert_array_equal(trunk(pixels, training=False), trunk(pixels, training=False))
    assert np.abs(trunk(pixels, training=True).numpy() - trunk(pixels, training=False).numpy()).max() > 0


SYNCHRONISED = """
import keras, numpy as np, tensorflow as tf
from job.model import backbones, classifier, cut
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
row = backbones.get("mobilenet_025")
with strategy.scope():
    model = classifier.build(row, weights="none", image_px=32, num_classes=2, dropout=0.0, seed=0)
classifier.freeze(model, cut.cut_for_share(model, row, 1.0), batchnorm="trained")
norm = model.get_layer("conv1_bn")
images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
images[2:] *= 0.25
def moved():
    norm.moving_mean.assign(tf.zeros_like(norm.moving_mean))
    half = lambda context: images[2 * context.replica_id_in_sync_group:][:2]
    halves = strategy.experimental_distribute_values_from_function(half)
    tf.function(lambda: strategy.run(lambda x: model(x, training=True), (halves,)))()
    return [value.numpy() for value in strategy.experimental_local_results(norm.moving_mean.value)]
first, second = moved()
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.synchronized = False
apart = moved()
print("RESULT", float(np.abs(first - second).max()), float(np.abs(apart[0] - apart[1]).max()))
"""


def test_trained_batchnorm_takes_its_statistics_over_all_replicas() -> None:
    """In a process of its own: virtual devices are made before TensorFlow starts."""
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", SYNCHRONISED], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    together, apart = map(float, result.stdout.split("RESULT")[1].split())
    assert together == 0
    assert apart > 1e-4, "the control does not move"


def test_a_frozen_batchnorm_is_not_synchronised(model: Any) -> None:
    freeze(model, cut.cut_for_share(model, ROW, 1.0), batchnorm="frozen")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert not any(layer.synchronized or layer.trainable for layer in norms)
