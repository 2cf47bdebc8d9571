"""Pillow's bilinear resize inside a TensorFlow graph, equal to the last bit.

The dataset is packed with Pillow, so the exported model has to see what Pillow makes of an image. `tf.image.resize`
with antialias is the same filter in another arithmetic: Pillow rounds to 8 bits between its two passes and its
weights are whole numbers of 2^-22. On photographs of 224 px resized to 160 px, a sixth of the numbers came out one
level off, and probabilities of a MobileNetV2 up to 0.17. Here they are equal, rows first and then columns.

From version 13 on Pillow itself takes the columns first where the height shrinks much more than the width
(pull request 9549). Asked for one pass after the other, every version does the same:
`image.resize((w, image.height)).resize((w, h))`.

Source: Pillow, src/libImaging/Resample.c, precompute_coeffs and ImagingResampleHorizontal_8bpc: the arithmetic.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_BITS = 22
_STRIP_PX = 1 << 20
"""Pixels that are resized at a time."""


def resize(image: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """Returns the image at another size: uint8 [height, width, C].

    Args:
        image: uint8 [H, W, C].
        height: int32 scalar, at least 1.
        width: int32 scalar, at least 1.
    """
    shape = tf.shape(image)
    taps, weights = _filters(shape[:2], tf.stack([height, width]))
    is_small = shape[0] * shape[1] <= _STRIP_PX
    across = (taps[1, :width], weights[1, :width])
    rows = tf.cond(is_small, lambda: _across(image, *across), lambda: _across_in_strips(image, *across))
    return _pass(rows, taps[0, :height], weights[0, :height])


def _across(image: tf.Tensor, taps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Resizes along the second axis, by way of the first: there a tap takes whole rows, not pixel by pixel."""
    return tf.transpose(_pass(tf.transpose(image, [1, 0, 2]), taps, weights), [1, 0, 2])


def _across_in_strips(image: tf.Tensor, taps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Does the same strip by strip: a pass takes up to ten bytes for each byte of its input."""
    shape = tf.shape(image)
    step = tf.maximum(_STRIP_PX // shape[1], 1)

    def strip(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return start + step, tf.concat([done, _across(image[start : start + step], taps, weights)], axis=0)

    _, rows = tf.while_loop(
        lambda start, _: start < shape[0],
        strip,
        (tf.constant(0), tf.zeros(tf.stack([0, tf.shape(taps)[0], shape[2]]), tf.uint8)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, None])),
        parallel_iterations=1,
    )
    return rows


def _pass(image: tf.Tensor, taps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Resizes along the first axis: uint8 [outputs, W, C] of one [H, W, C], with a filter as below.

    All taps at once: adding up one after the other takes more operations, and several images at a time 1.4 times as
    long.
    """
    shape = tf.shape(image)
    outputs, num_taps = tf.unstack(tf.shape(taps))
    pixels = tf.reshape(tf.cast(tf.gather(image, taps), tf.int32), tf.stack([outputs, num_taps, shape[1] * shape[2]]))
    total = tf.matmul(weights[:, None, :], pixels)
    # Weights of at least 0 that add up to 2^22, but for their rounding: what is left lies within 0..255.
    rounded = tf.bitwise.right_shift(total + (1 << (_BITS - 1)), _BITS)
    return tf.reshape(tf.cast(rounded, tf.uint8), tf.stack([outputs, shape[1], shape[2]]))


def _filters(before: tf.Tensor, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns which inputs each output of an axis adds up and with what weights: int32 [axes, max(after), taps] both.

    Both axes at once, for fewer operations; of the shorter one's rows those from its `after` on mean nothing.

    Args:
        before: int32 [axes].
        after: int32 [axes].
    """
    scale = (tf.cast(before, tf.float64) / tf.cast(after, tf.float64))[:, None]
    support = tf.maximum(scale, 1.0)
    centre = (tf.cast(tf.range(tf.reduce_max(after)), tf.float64) + 0.5) * scale
    # Casting to int cuts towards 0, as in C.
    first = tf.maximum(tf.cast(centre - support + 0.5, tf.int32), 0)
    last = tf.minimum(tf.cast(centre + support + 0.5, tf.int32), before[:, None])
    at = first[:, :, None] + tf.range(tf.reduce_max(last - first))
    triangle = tf.maximum(1.0 - tf.abs(tf.cast(at, tf.float64) - centre[:, :, None] + 0.5) / support[:, :, None], 0.0)
    triangle = tf.where(at < last[:, :, None], triangle, tf.zeros_like(triangle))
    shares = triangle / tf.reduce_sum(triangle, axis=2, keepdims=True)
    # Taps behind the edge weigh 0.
    taps = tf.minimum(at, before[:, None, None] - 1)
    return taps, tf.cast(shares * float(1 << _BITS) + 0.5, tf.int32)
