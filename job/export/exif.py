"""EXIF orientation inside a TensorFlow graph: `tf.io` decodes images but ignores which way is up.

Finds the orientation tag in JPEG (APP1 segment), PNG (eXIf chunk) and WebP (EXIF chunk), the three formats that
carry it. All three are chains of (kind, length, payload), walked by one loop. Any malformed or missing EXIF
means "upright". Orientation given in XMP alone is not read.

Source: CIPA DC-008 (Exif 2.32) 4.5 and 4.6.4; JPEG ITU T.81 B.1.1; PNG 3rd edition 5.3; RFC 9649 (WebP) 2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Zeros behind the file, so that reads at its end need no bounds check.
_PAD = 16
_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_MENTIONS_EXIF = r"\C*(Exif|eXIf|EXIF)\C*"
"""What JPEG, PNG and WebP call their EXIF; \\C is any byte."""
_SEARCHED = 1 << 18
"""Bytes of a file that may be searched for it; in longer ones the walk is quicker."""

Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation, int64 scalar 1..8; 1 (upright) where there is none.

    Args:
        image_bytes: string scalar, an image file of any format.
    """
    # Most images have none: to search 25 KB takes 0.06 ms, to walk through their headers 0.5 ms.
    is_mentioned = tf.strings.regex_full_match(tf.strings.substr(image_bytes, 0, _SEARCHED), _MENTIONS_EXIF)
    return tf.cond(
        is_mentioned | (tf.strings.length(image_bytes) > _SEARCHED),
        lambda: _walked(image_bytes),
        lambda: tf.constant(1, tf.int64),
    )


def _walked(image_bytes: tf.Tensor) -> tf.Tensor:
    """Returns what the headers say, as above."""
    data = tf.concat([tf.io.decode_raw(image_bytes, tf.uint8), tf.zeros([_PAD], tf.uint8)], axis=0)
    none = tf.constant(-1, tf.int64)
    tiff = tf.case(
        [
            (_starts(image_bytes, 0, b"\xff\xd8"), lambda: _find(data, 2, _jpeg_step)),
            (_starts(image_bytes, 0, b"\x89PNG"), lambda: _find(data, 8, _png_step)),
            (_starts(image_bytes, 8, b"WEBP"), lambda: _find(data, 12, _webp_step)),
        ],
        default=lambda: none,
        exclusive=False,
    )
    return tf.cond(tiff >= 0, lambda: _tag(data, tiff), lambda: tf.constant(1, tf.int64))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image as its EXIF orientation asks for.

    Args:
        image: any dtype [H, W, C], as decoded.
        orientation: int64 scalar, 1..8.

    Returns:
        The same dtype, [H, W, C] or [W, H, C].
    """
    turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    mirrored = tf.cond(_is_one_of(orientation, (2, 3, 6, 7)), lambda: tf.reverse(turned, [1]), lambda: turned)
    return tf.cond(_is_one_of(orientation, (3, 4, 7, 8)), lambda: tf.reverse(mirrored, [0]), lambda: mirrored)


def _find(data: tf.Tensor, start: int, step: Step) -> tf.Tensor:
    """Walks the chain; returns where the TIFF header of the EXIF starts, int64, or -1."""
    size = tf.size(data, out_type=tf.int64) - _PAD

    def walk(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_exif, payload, following = step(data, at)
        # WebP and PNG writers sometimes keep the JPEG prefix in front of the TIFF header.
        payload = tf.minimum(payload, size)
        payload += tf.where(_equal(data, payload, b"Exif\0\0"), tf.constant(6, tf.int64), tf.constant(0, tf.int64))
        found = tf.where(is_exif, tf.minimum(payload, size), tf.constant(-1, tf.int64))
        return tf.clip_by_value(following, at + 1, size), found

    _, tiff = tf.while_loop(
        lambda at, tiff: (at < size) & (tiff < 0),
        walk,
        (tf.minimum(tf.constant(start, tf.int64), size), tf.constant(-1, tf.int64)),
        parallel_iterations=1,
    )
    return tiff


def _jpeg_step(data: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    end = tf.size(data, out_type=tf.int64)
    marker = _number(data, at + 1, 1)
    length = _number(data, at + 2, 2)
    is_exif = (marker == 0xE1) & _equal(data, at + 4, b"Exif\0\0")
    following = tf.where(marker == 0xFF, at + 1, at + 2 + length)  # 0xFF may be repeated as filling
    # Start of scan or end of image: no more headers. Anything but a marker: not a JPEG.
    is_over = (_number(data, at, 1) != 0xFF) | (marker == 0xDA) | (marker == 0xD9)
    return is_exif, at + 4, tf.where(is_over, end, following)


def _png_step(data: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return _equal(data, at + 4, b"eXIf"), at + 8, at + 12 + _number(data, at, 4)


def _webp_step(data: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    length = _number(data, at + 4, 4, is_little=tf.constant(True))
    return _equal(data, at, b"EXIF"), at + 8, at + 8 + length + length % 2


def _tag(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in the first directory of the TIFF structure at `tiff`; 1 where it has none."""
    size = tf.size(data, out_type=tf.int64) - _PAD
    is_little = _equal(data, tiff, b"II")
    is_tiff = (is_little | _equal(data, tiff, b"MM")) & (_number(data, tiff + 2, 2, is_little) == 42)
    directory = tf.minimum(tiff + _number(data, tiff + 4, 4, is_little), size)
    room = tf.maximum(size - directory - 2, 0) // 12
    count = tf.where(is_tiff, tf.minimum(_number(data, directory, 2, is_little), room), tf.zeros([], tf.int64))
    entries = tf.reshape(data[directory + 2 : directory + 2 + 12 * count], tf.stack([count, 12]))
    kind = _value(entries[:, 2:4], is_little)
    short, long = _value(entries[:, 8:10], is_little), _value(entries[:, 8:12], is_little)
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, tf.ones_like(short)))
    is_orientation = (_value(entries[:, 0:2], is_little) == _ORIENTATION_TAG) & (value >= 1) & (value <= 8)
    # The first entry that fits, or the 1 appended.
    return tf.concat([tf.boolean_mask(value, is_orientation), tf.ones([1], tf.int64)], axis=0)[0]


def _number(data: tf.Tensor, at: tf.Tensor, num_bytes: int, is_little: tf.Tensor | None = None) -> tf.Tensor:
    """Reads an unsigned number at `at` <= size of the file; big-endian unless `is_little`."""
    part = tf.reshape(data[at : at + num_bytes], [num_bytes])
    return _value(part, tf.constant(False) if is_little is None else is_little)


def _value(parts: tf.Tensor, is_little: tf.Tensor) -> tf.Tensor:
    """Returns the numbers in the last axis: uint8 [..., num_bytes] → int64 [...]."""
    num_bytes = int(parts.shape[-1])
    weights = [256**power for power in range(num_bytes)]
    order = tf.where(is_little, tf.constant(weights, tf.int64), tf.constant(weights[::-1], tf.int64))
    return tf.reduce_sum(tf.cast(parts, tf.int64) * order, axis=-1)


def _equal(data: tf.Tensor, at: tf.Tensor, expected: bytes) -> tf.Tensor:
    part = tf.reshape(data[at : at + len(expected)], [len(expected)])
    return tf.reduce_all(part == tf.constant(list(expected), tf.uint8))


def _starts(image_bytes: tf.Tensor, at: int, expected: bytes) -> tf.Tensor:
    is_long = tf.strings.length(image_bytes) >= at + len(expected)
    return tf.cond(
        is_long,
        lambda: tf.strings.substr(image_bytes, at, len(expected)) == expected,
        lambda: tf.constant(False),
    )


def _is_one_of(value: tf.Tensor, allowed: tuple[int, ...]) -> Any:
    return tf.reduce_any(value == tf.constant(allowed, tf.int64))
