"""The classifier as it is built, with every kind of backbone and dtype."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.errors import ConfigError
from job.model import backbones, classifier

pytestmark = pytest.mark.filterwarnings(
    # Keras 3.15 saves with numpy.array(variable), which NumPy 2 wants to be told about copies.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PLAIN: dict[str, Any] = {"weights": "none", "image_px": 64, "num_classes": 3, "dropout": 0.2, "seed": 5}


@pytest.mark.parametrize(
    "name", ["mobilenet_025", "resnet50", "densenet121", "mobilenet_v3_small", "efficientnet_v2_b0", "convnext_tiny"]
)
def test_features_equal_those_of_keras_with_the_same_weights(
    name: str, tmp_path: Path, pixels: np.ndarray, calibrate: Callable[..., None]
) -> None:
    """The whole way: preprocessing, weights from a file, our graph, against Keras's own parts."""
    row = backbones.get(name)
    theirs = getattr(keras.applications, row.constructor)(
        include_top=False, weights=None, pooling="avg", input_shape=(64, 64, 3), **row.kwargs
    )
    prepared = importlib.import_module(f"keras.applications.{row.family}").preprocess_input(pixels.copy())
    calibrate(theirs, prepared)
    path = tmp_path / "theirs.weights.h5"
    theirs.save_weights(path)
    expected = theirs(prepared, training=False).numpy()

    ours = classifier.build(row, **PLAIN | {"weights": path})
    features = keras.Model(ours.input, ours.get_layer("features").output)
    np.testing.assert_allclose(features(pixels, training=False), expected, atol=1e-4 * np.abs(expected).max())
    wrong = features(pixels / 255, training=False).numpy()
    assert np.abs(wrong - expected).max() > 1e-2 * np.abs(expected).max(), "the control does not move"


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("mobilenet_025", "float32"),
        ("mobilenet_025", "float16"),
        ("mobilenet_025", "mixed_bfloat16"),
        ("convnext_tiny", "bfloat16"),
    ],
)
def test_logits_and_variables_are_float32_whatever_the_policy(name: str, policy: str, pixels: np.ndarray) -> None:
    model = classifier.build(backbones.get(name), **PLAIN | {"policy": policy, "image_px": 32})
    inside = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    assert inside == {policy.removeprefix("mixed_")}
    logits = model(pixels[:, :32, :32], training=False)
    assert logits.dtype == model.get_layer("features").output.dtype == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "efficientnet_v2_b0", "convnext_tiny"])
def test_the_graph_is_flat_with_named_parts(name: str) -> None:
    model = classifier.build(backbones.get(name), **PLAIN)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert [model.inputs[0].name, *(layer.name for layer in model.layers[-3:])] == [
        "pixels",
        "features",
        "dropout",
        "logits",
    ]
    assert model.inputs[0].shape == (None, 64, 64, 3)
    assert model.outputs[0].shape == (None, 3)


def test_the_same_seed_gives_the_same_network(pixels: np.ndarray) -> None:
    row = backbones.get("efficientnet_v2_b0")
    first, second, other = (classifier.build(row, **PLAIN | {"seed": seed}) for seed in (5, 5, 6))
    for one, same in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any((one.numpy() != two.numpy()).any() for one, two in zip(first.variables, other.variables, strict=True))
    outputs = [
        keras.Model(m.input, m.get_layer("dropout").output)(pixels, training=True).numpy() for m in (first, second)
    ]
    np.testing.assert_array_equal(*outputs)


def test_building_leaves_the_random_state_alone() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    classifier.build(backbones.get("mobilenet_025"), **PLAIN)
    assert random.random() == expected


def test_the_head_starts_at_zero(pixels: np.ndarray) -> None:
    model = classifier.build(backbones.get("mobilenet_025"), **PLAIN)
    np.testing.assert_array_equal(model(pixels, training=False), np.zeros((4, 3)))


def test_too_small_images_are_refused_before_building() -> None:
    with pytest.raises(ConfigError) as error:
        classifier.build(backbones.get("inception_v3"), **PLAIN)
    assert all(part in str(error.value) for part in ("64", "inception_v3", "75", "299", "data.image_px"))
