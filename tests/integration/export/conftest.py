"""A tiny live classifier: it tells reddish, greenish and bluish pictures apart, surely enough to be wrong by a lot."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from job.dataset import geometry as packing
from job.dataset.decode import decode
from job.export import saved_model
from job.export.saved_model import Geometry

CLASSES = ("röd", "green", "blue")
GEOMETRY = Geometry("squash", 20, 16)
TEMPERATURE = 1.7


def tiny(policy: str = "float32") -> keras.Model:
    """Returns pixels [B, 16, 16, 3], 0..255 → logits [B, 3], a function of the mean colour and of the texture."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype=policy)(inputs)
    x = keras.layers.Conv2D(6, 3, activation="relu", dtype=policy)(x)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(x)
    mean = keras.layers.GlobalAveragePooling2D(dtype=policy)(keras.layers.Rescaling(1 / 60, dtype=policy)(inputs))
    x = keras.layers.Dropout(0.5, dtype=policy)(keras.layers.Concatenate(dtype=policy)([x, mean]))
    logits = keras.layers.Dense(3, name="logits", dtype="float32")(x)
    model = keras.Model(inputs, logits)
    head = model.get_layer("logits")
    kernel, bias = head.get_weights()
    kernel[-3:] = 3 * np.eye(3)
    head.set_weights([kernel, bias])
    return model


def pictures(num: int = 6) -> tuple[list[tuple[str, bytes]], np.ndarray]:
    """Returns (name, PNG or JPEG file) pairs and the pixels the dataset's packing makes of them.

    The JPEGs are large enough to be shrunk while they are decoded, to a half.
    """
    files, pixels = [], []
    for number in range(num):
        rng = np.random.default_rng(number)
        base = rng.integers(60, 120, (30, 41, 3) if number % 2 else (130, 179, 3))
        base[..., number % 3] += 60
        image = Image.fromarray((base + rng.integers(0, 40, base.shape)).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if number % 2 else "JPEG")
        files.append((f"test/{CLASSES[number % 3]}/picture {number}.x", buffer.getvalue()))
        decoded = decode(buffer.getvalue(), "", stored_px=20).image
        assert decoded is not None
        assert decoded.size == ((41, 30) if number % 2 else (90, 65))
        pixels.append(packing.fit(decoded, 20, "squash")[2:18, 2:18])
    return files, np.stack(pixels)


def evaluated(model: keras.Model, pixels: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Returns the calibrated probabilities, float32 [M, K], as an evaluation computes them."""
    logits = np.asarray(model(pixels.astype(np.float32), training=False), np.float64) / temperature
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Kit:
    """What the tests of this folder make their models and pictures with."""

    classes: tuple[str, ...] = CLASSES
    geometry: Geometry = GEOMETRY
    temperature: float = TEMPERATURE
    tiny: Callable[..., keras.Model] = tiny
    pictures: Callable[..., tuple[list[tuple[str, bytes]], np.ndarray]] = pictures
    evaluated: Callable[..., np.ndarray] = evaluated


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture(scope="session")
def model() -> keras.Model:
    return tiny()


@pytest.fixture(scope="session")
def export_dir(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that no test changes."""
    to = tmp_path_factory.mktemp("export") / "1"
    saved_model.write(model, classes=CLASSES, temperature=TEMPERATURE, geometry=GEOMETRY, to=to)
    return to
