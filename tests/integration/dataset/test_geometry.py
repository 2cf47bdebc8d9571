"""The stored square is the one TensorFlow makes of the same bytes in the exported model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from job.dataset.decode import decode
from job.dataset.geometry import FitMode, crop_box, fit, padded_size, reduction


def in_tensorflow(data: bytes, stored_px: int, mode: FitMode) -> np.ndarray:
    height, width = tf.io.extract_jpeg_shape(data).numpy()[:2].tolist()
    by = reduction(width, height, stored_px)
    pixels = tf.io.decode_jpeg(data, channels=3, ratio=by, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    pixels = tf.cast(pixels, tf.float32)
    height, width = pixels.shape[:2]
    if mode == "crop":
        left, top, right, bottom = crop_box(width, height)
        pixels = pixels[top:bottom, left:right]
    size = padded_size(width, height, stored_px)[::-1] if mode == "pad" else (stored_px, stored_px)
    scaled = tf.image.resize(pixels, size, method="bilinear", antialias=True)
    top, left = (stored_px - size[0]) // 2, (stored_px - size[1]) // 2
    scaled = tf.image.pad_to_bounding_box(scaled, top, left, stored_px, stored_px)
    return np.round(scaled.numpy())


def photographs(assets: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(assets.glob("data/flowers12/test/*/*.jpg"))[::30]]


def wide(data: bytes) -> bytes:
    """The same photograph twice as wide and cut unevenly, so that no side divides another."""
    pixels = tf.io.decode_jpeg(data, channels=3)
    pixels = tf.concat([pixels, pixels[:, ::-1]], axis=1)[3:-8, 5:-4]
    encoded: bytes = tf.io.encode_jpeg(pixels, quality=95).numpy()
    return encoded


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
@pytest.mark.parametrize("stored_px", [64, 160, 300])
@pytest.mark.parametrize("shape", [bytes, wide])
def test_a_photograph_is_fitted_within_one_grey_level(
    assets: Path, mode: FitMode, stored_px: int, shape: Callable[[bytes], bytes]
) -> None:
    differences = []
    for data in map(shape, photographs(assets)):
        image = decode(data, "photo.jpg", stored_px=stored_px).image
        assert image is not None
        differences.append(np.abs(fit(image, stored_px, mode) - in_tensorflow(data, stored_px, mode)))
    assert len(differences) == 8
    assert max(difference.max() for difference in differences) <= 1
    # Measured 0.00 to 0.21: Pillow rounds after each of its two passes, TensorFlow once.
    assert np.mean([difference.mean() for difference in differences]) < 0.25


def test_a_resize_without_antialiasing_would_be_noticed(assets: Path) -> None:
    data = photographs(assets)[0]
    image = decode(data, "photo.jpg").image
    assert image is not None
    aliased = tf.image.resize(tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE"), (64, 64), "bilinear").numpy()
    assert np.abs(fit(image, 64, "squash") - np.round(aliased)).max() > 20
