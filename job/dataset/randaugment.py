"""RandAugment from random numbers that are handed in: two operations an image, vectorised over the batch.

Each image draws two operations. Geometry (rotate, shear, translate) composes into one affine map and one
resampling; colour (brightness, contrast, saturation, posterize, solarize, sharpness) runs as a blend that is
the identity for the images that did not draw it. Left out of the paper's list: AutoContrast and Equalize,
which need a histogram an image.

Source: Cubuk et al. 2019 (arXiv:1909.13719), ranges of table 6 in AutoAugment (arXiv:1805.09501).
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

NUM_OPERATIONS = 2
MAX_MAGNITUDE = 10
_GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_COLOR = ("brightness", "contrast", "saturation", "posterize", "solarize", "sharpness")
_NAMES = (*_GEOMETRY, *_COLOR, "identity")
_FILL = 128.0


def randaugment(images: Any, randoms: Any, *, magnitude: int) -> Any:
    """Returns float32 [B, H, W, 3], 0..255.

    Args:
        images: float32 [B, H, W, 3], 0..255.
        randoms: float32 [B, >= 4] in [0, 1): which operation and which sign, twice.
        magnitude: 1..10.
    """
    strength = magnitude / MAX_MAGNITUDE
    for operation in range(NUM_OPERATIONS):
        drawn = tf.cast(randoms[:, 2 * operation] * len(_NAMES), tf.int32)
        sign = tf.where(randoms[:, 2 * operation + 1] < 0.5, -1.0, 1.0)
        amount = {name: tf.where(tf.equal(drawn, row), strength * sign, 0.0) for row, name in enumerate(_NAMES)}
        images = _color(_geometry(images, amount), amount)
    return images


def _geometry(images: Any, amount: dict[str, Any]) -> Any:
    height, width = float(images.shape[1]), float(images.shape[2])
    angle = amount["rotate"] * math.radians(30)
    cos, sin = tf.cos(angle), tf.sin(angle)
    a = cos
    b = -sin + 0.3 * amount["shear_x"]
    c = sin + 0.3 * amount["shear_y"]
    d = cos
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    shift_x = middle_x - a * middle_x - b * middle_y + 0.3 * width * amount["translate_x"]
    shift_y = middle_y - c * middle_x - d * middle_y + 0.3 * height * amount["translate_y"]
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, shift_x, c, d, shift_y, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=_FILL,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _color(images: Any, amount: dict[str, Any]) -> Any:
    def of(name: str, scale: float) -> Any:
        return (scale * amount[name])[:, None, None, None]

    images = images * (1.0 + of("brightness", 0.9))
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    images = mean + (images - mean) * (1.0 + of("contrast", 0.9))
    gray = tf.tensordot(images, tf.constant([0.299, 0.587, 0.114]), axes=1)[..., None]
    images = tf.clip_by_value(gray + (images - gray) * (1.0 + of("saturation", 0.9)), 0.0, 255.0)
    step = tf.pow(2.0, tf.round(tf.abs(of("posterize", 4.0))))
    images = tf.where(step > 1.0, tf.floor(images / step) * step, images)
    images = tf.where(images >= 256.0 - tf.abs(of("solarize", 256.0)), 255.0 - images, images)
    smooth = tf.nn.avg_pool2d(images, 3, 1, "SAME")
    return tf.clip_by_value(images + (images - smooth) * of("sharpness", 0.9), 0.0, 255.0)
