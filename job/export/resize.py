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


def resize(image: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """Returns the image at another size: uint8 [height, width, C].

    Args:
        image: uint8 [H, W, C].
        height: int32 scalar, at least 1.
        width: int32 scalar, at least 1.
    """
    columns = tf.transpose(image, [1, 0, 2])
    return _pass(tf.transpose(_pass(columns, width), [1, 0, 2]), height)


def _pass(image: tf.Tensor, size: Any) -> tf.Tensor:
    """Resizes along the first axis, adding up one tap of the filter at a time: no larger than the result times 4 bytes.

    The first, because there a tap takes whole rows: along the second one TensorFlow copies pixel by pixel, and an image
    took 1.5 times as long.
    """
    before = tf.shape(image)[0]
    first, weights = _weights(before, tf.convert_to_tensor(size, tf.int32))

    def add(tap: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Taps behind the edge weigh 0.
        pixels = tf.gather(image, tf.minimum(first + tap, before - 1))
        return tap + 1, total + tf.cast(pixels, tf.int32) * weights[tap][:, None, None]

    half = tf.fill(tf.tensor_scatter_nd_update(tf.shape(image), [[0]], [size]), 1 << (_BITS - 1))
    _, total = tf.while_loop(
        lambda tap, _: tap < tf.shape(weights)[0],
        add,
        (tf.constant(0), half),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, None])),
        parallel_iterations=1,
    )
    # Weights of at least 0 that add up to 2^22, but for their rounding: what is left lies within 0..255.
    return tf.cast(tf.bitwise.right_shift(total, _BITS), tf.uint8)


def _weights(before: tf.Tensor, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns each output's first input, int32 [after], and the weights of its taps, int32 [taps, after]."""
    scale = tf.cast(before, tf.float64) / tf.cast(after, tf.float64)
    support = tf.maximum(scale, 1.0)
    centre = (tf.cast(tf.range(after), tf.float64) + 0.5) * scale
    # Casting to int cuts towards 0, as in C.
    first = tf.maximum(tf.cast(centre - support + 0.5, tf.int32), 0)
    last = tf.minimum(tf.cast(centre + support + 0.5, tf.int32), before)
    taps = tf.range(tf.reduce_max(last - first))
    at = first[None, :] + taps[:, None]
    triangle = tf.maximum(1.0 - tf.abs(tf.cast(at, tf.float64) - centre + 0.5) / support, 0.0)
    triangle = tf.where(at < last, triangle, tf.zeros_like(triangle))
    shares = triangle / tf.reduce_sum(triangle, axis=0)
    return first, tf.cast(shares * float(1 << _BITS) + 0.5, tf.int32)
