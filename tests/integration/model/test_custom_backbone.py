"""A user's own backbone in a .keras file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.errors import ConfigError
from job.model import classifier, custom, cut

pytestmark = pytest.mark.filterwarnings(
    # Keras 3.15 saves with numpy.array(variable), which NumPy 2 wants to be told about copies.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PLAIN: dict[str, Any] = {"weights": "imagenet", "image_px": 64, "num_classes": 3, "dropout": 0.2, "seed": 5}


def _block(filters: int, name: str) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [layers.Conv2D(filters, 3, strides=2, name="conv"), layers.BatchNormalization(), layers.ReLU()], name=name
    )


def _own(px: int | None = 64) -> Any:
    image = keras.Input((px, px, 3))
    hidden = keras.layers.Rescaling(1 / 255)(image)
    norm = keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])
    inner_image = keras.Input((None, None, 3))
    inner = keras.Model(inner_image, _block(8, "second")(_block(4, "first")(inner_image)), name="inner")
    hidden = inner(norm(hidden), training=False)
    side = keras.layers.Conv2D(8, 1, name="conv")(hidden)
    return keras.Model(image, hidden + side)


@pytest.mark.parametrize("px", [64, None])
def test_nested_models_become_one_flat_graph_with_the_same_features(
    px: int | None, tmp_path: Path, pixels: np.ndarray
) -> None:
    own = _own(px)
    own.save(tmp_path / "own.keras")
    row = custom.describe(tmp_path / "own.keras")
    model = classifier.build(row, **PLAIN)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    expected = own(pixels, training=False).numpy().mean(axis=(1, 2))
    features = keras.Model(model.input, model.get_layer("features").output)(pixels, training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-4
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_it_can_be_cut_and_frozen_by_share(tmp_path: Path, pixels: np.ndarray) -> None:
    _own().save(tmp_path / "own.keras")
    row = custom.describe(tmp_path / "own.keras")
    model = classifier.build(row, **PLAIN)
    place = cut.cut_for_share(model, row, 0.5)
    classifier.freeze(model, place, batchnorm="frozen")
    assert 0 < place.blocks_below < 1
    assert len(classifier.layer_groups(model, place)) >= 2
    model.get_layer("logits").kernel.assign(np.ones((8, 3)))
    trunk, top = cut.split(model, place)
    np.testing.assert_allclose(top(trunk(pixels), training=False), model(pixels, training=False), atol=1e-6)


def test_a_sequential_backbone_with_pooled_output(tmp_path: Path, pixels: np.ndarray) -> None:
    layers = keras.layers
    own = keras.Sequential([keras.Input((64, 64, 3)), _block(4, "block"), layers.GlobalMaxPooling2D()])
    own.save(tmp_path / "own.keras")
    model = classifier.build(custom.describe(tmp_path / "own.keras"), **PLAIN)
    features = keras.Model(model.input, model.get_layer("features").output)
    np.testing.assert_allclose(features(pixels, training=False), own(pixels, training=False), atol=1e-5)


def test_weights_none_starts_afresh_and_a_file_replaces_them(tmp_path: Path) -> None:
    own, other = _own(), _own()
    own.save(tmp_path / "own.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    row = custom.describe(tmp_path / "own.keras")
    kernel = own.get_layer("conv").kernel.numpy()
    saved, fresh, replaced = (
        classifier.build(row, **PLAIN | {"weights": weights})
        for weights in ("imagenet", "none", tmp_path / "other.weights.h5")
    )
    # Names that come twice are told apart: conv (first block), conv_1 (second), conv_2 (the side branch).
    np.testing.assert_array_equal(saved.get_layer("conv_2").kernel, kernel)
    assert (fresh.get_layer("conv_2").kernel.numpy() != kernel).any()
    np.testing.assert_array_equal(replaced.get_layer("conv_2").kernel, other.get_layer("conv").kernel)


def test_lambda_layers_are_refused(tmp_path: Path) -> None:
    image = keras.Input((64, 64, 3))
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(tmp_path / "own.keras")
    with pytest.raises(ConfigError) as error:
        classifier.build(custom.describe(tmp_path / "own.keras"), **PLAIN)
    assert "own.keras" in str(error.value)
    assert "safe mode" in str(error.value)


class Custom(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    def call(self, inputs: Any) -> Any:
        return inputs * 2


def test_custom_layers_are_refused(tmp_path: Path) -> None:
    image = keras.Input((64, 64, 3))
    keras.Model(image, Custom()(image)).save(tmp_path / "own.keras")
    with pytest.raises(ConfigError, match="custom classes"):
        classifier.build(custom.describe(tmp_path / "own.keras"), **PLAIN)


def test_another_size_than_the_images_is_refused(tmp_path: Path) -> None:
    _own(96).save(tmp_path / "own.keras")
    with pytest.raises(ConfigError, match=r"data\.image_px"):
        classifier.build(custom.describe(tmp_path / "own.keras"), **PLAIN | {"image_px": 128})


@pytest.mark.parametrize("num", [0, 2])
def test_more_than_one_input_or_a_wrong_output_is_refused(num: int, tmp_path: Path) -> None:
    images = [keras.Input((64, 64, 3)) for _ in range(max(1, num))]
    output = keras.layers.Add()(images) if num else keras.layers.Reshape((64, 192))(images[0])
    keras.Model(images, output).save(tmp_path / "own.keras")
    with pytest.raises(ConfigError, match="2 inputs" if num else "gives"):
        classifier.build(custom.describe(tmp_path / "own.keras"), **PLAIN)
