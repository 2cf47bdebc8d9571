"""The weights that ship with the demo: small, and plain Keras loads them."""

from __future__ import annotations

from importlib.resources import as_file, files

import keras
import numpy as np

from job.demo import images

_WEIGHTS = files("job.demo") / "backbone.weights.h5"


def _mobilenet() -> keras.Model:
    return keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_shape=(96, 96, 3))


def test_the_weights_file_is_at_most_two_megabytes() -> None:
    with as_file(_WEIGHTS) as path:
        assert path.stat().st_size <= 2_000_000


def test_plain_keras_loads_the_weights_and_their_features_tell_pictures_apart() -> None:
    model = _mobilenet()
    with as_file(_WEIGHTS) as path:
        model.load_weights(path)
    drawn = [np.asarray(images.render(name, 0, seed=9, size_px=96), np.float32) for name in images.CLASSES]
    features = np.asarray(model(np.stack(drawn) / 127.5 - 1, training=False)).mean(axis=(1, 2))
    assert features.shape == (5, 256)
    assert np.isfinite(features).all()
    assert features.std(axis=0).mean() > 0.05  # with random weights it is about 1e-17
