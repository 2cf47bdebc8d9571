"""Preprocessing inside the model against `keras.applications`, for every row of the table."""

from __future__ import annotations

import importlib
import inspect

import keras
import numpy as np
import pytest

from job.model import preprocessing
from job.model.backbones import BACKBONES

MODULES = {"vgg": "vgg16"}
"""Families whose module in keras.applications has another name."""


@pytest.mark.parametrize("name", BACKBONES)
def test_preprocessing_equals_preprocess_input(name: str, pixels: np.ndarray) -> None:
    row = BACKBONES[name]
    module = importlib.import_module(f"keras.applications.{MODULES.get(row.family, row.family)}")
    image = keras.Input(pixels.shape[1:])
    received = keras.Model(image, preprocessing.apply(row, image))(pixels).numpy()
    expected = module.preprocess_input(pixels.copy())
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=2e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_constructor_takes_what_the_row_gives(name: str) -> None:
    row = BACKBONES[name]
    parameters = inspect.signature(getattr(keras.applications, row.constructor)).parameters
    assert {"include_top", "weights", "input_tensor", "input_shape", "pooling", *row.kwargs} <= set(parameters)
    if row.preprocessing == "inside" and row.family != "efficientnet":
        assert parameters["include_preprocessing"].default is True


def test_the_table_is_complete() -> None:
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {row.constructor for row in BACKBONES.values()} == constructors
