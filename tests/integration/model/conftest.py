"""Networks with live activations: an untrained one gives nearly the same output for every image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from job.model import backbones, classifier

PX = 64


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Returns float32 [4, 64, 64, 3], 0..255."""
    return np.random.default_rng(7).uniform(0, 255, (4, PX, PX, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def live(pixels: np.ndarray) -> Callable[..., Any]:
    """Returns build(name, **changes): a classifier with BatchNorm statistics of `pixels` and a random head."""

    def build(name: str, **changes: Any) -> Any:
        row = backbones.get(name)
        px = max(PX, row.min_px)
        settings: dict[str, Any] = {"weights": "none", "image_px": px, "num_classes": 3, "dropout": 0.5, "seed": 1}
        settings |= changes
        model = classifier.build(row, **settings)
        _calibrate(model, np.resize(pixels, (4, px, px, 3)))
        head = model.get_layer("logits")
        head.kernel.assign(np.random.default_rng(1).normal(size=head.kernel.shape))
        return model

    return build


@pytest.fixture(scope="session")
def calibrate() -> Callable[..., None]:
    """Returns calibrate(model, inputs): sets the BatchNorm statistics of a network to those of the inputs."""
    return _calibrate


def _calibrate(model: Any, pixels: np.ndarray) -> None:
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    for layer in model.layers:
        if type(layer).__name__ == "LayerScale":  # starts at 1e-6, which hides the block
            layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    model(pixels, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
