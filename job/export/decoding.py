"""From the bytes of an image file to the pixels the model was trained on, inside a TensorFlow graph.

The same steps as the dataset's packing does with Pillow, in the same order: decode, upright, RGB, square, resize,
and then the centre crop. JPEG decoding (a large one shrunk meanwhile) and resizing agree bit for bit, so the served
probabilities are the evaluated ones, not nearly so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import tensorflow as tf

from job.export import exif
from job.export.resize import resize

Fit = Literal["squash", "crop", "pad"]

# As `dataset.geometry.reduction` has them; a test holds the two together.
_REDUCTIONS = (1, 2, 4, 8)
_LEAST_PX = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an image of any size becomes the model's square.

    Attributes:
        fit: squash both sides, crop the centre square, or pad to a square with black.
        stored_px: Side it is resized to.
        image_px: Side of the centre crop the model takes, at most stored_px.
    """

    fit: Fit
    stored_px: int
    image_px: int

    def __post_init__(self) -> None:
        assert 1 <= self.image_px <= self.stored_px, f"image_px is at most stored_px, got {self}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pixels(image_bytes: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Returns the model's input for one image file: float32 [image_px, image_px, 3], whole numbers 0..255, RGB.

    JPEG (CMYK and YCCK too, converted as libjpeg does), PNG (16 bits cut to 8, alpha dropped), GIF and WebP (first
    frame), BMP (24 and 32 bits, 8-bit grey).

    Args:
        image_bytes: string scalar.
        geometry: Of the training.

    Raises:
        tf.errors.InvalidArgumentError: When run on bytes that are no such image. It does not name the file.
    """
    stored = geometry.stored_px
    image = exif.upright(_decode(image_bytes, stored), exif.orientation(image_bytes))
    if geometry.fit == "crop":
        image = _central_square(image)
    height, width = _padded_size(image, stored) if geometry.fit == "pad" else (stored, stored)
    whole = resize(image, height, width)
    if geometry.fit == "pad":
        whole = tf.image.pad_to_bounding_box(whole, (stored - height) // 2, (stored - width) // 2, stored, stored)
    start = (stored - geometry.image_px) // 2
    end = start + geometry.image_px
    cropped = tf.cast(whole[start:end, start:end], tf.float32)
    return tf.ensure_shape(cropped, [geometry.image_px, geometry.image_px, 3])


def _decode(image_bytes: tf.Tensor, stored_px: int) -> tf.Tensor:
    """Returns uint8 [H, W, 3], as stored in the file, a JPEG shrunk as `dataset.geometry.reduction` says."""
    is_jpeg = tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff"
    image = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(image_bytes, stored_px),
        lambda: tf.io.decode_image(image_bytes, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_jpeg(image_bytes: tf.Tensor, stored_px: int) -> tf.Tensor:
    def reduced(by: int) -> Callable[[], tf.Tensor]:
        # The default of TensorFlow's build is the fast, less exact transform; Pillow uses the exact one.
        return lambda: tf.io.decode_jpeg(image_bytes, channels=3, ratio=by, dct_method="INTEGER_ACCURATE")

    # Reads the header alone.
    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(image_bytes)[:2])
    num_halvings = tf.reduce_sum(tf.cast(shorter // _REDUCTIONS[1:] >= max(stored_px, _LEAST_PX), tf.int32))
    return tf.switch_case(num_halvings, [reduced(by) for by in _REDUCTIONS])


def _central_square(image: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(image)[:2])
    side = tf.minimum(height, width)
    return tf.image.crop_to_bounding_box(image, (height - side) // 2, (width - side) // 2, side, side)


def _padded_size(image: tf.Tensor, stored_px: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (height, width) with the longer side `stored_px`, the shorter rounded half up and at least 1."""
    height, width = tf.unstack(tf.shape(image, out_type=tf.int64)[:2])
    longest = tf.maximum(height, width)

    def scaled(side: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.maximum((2 * side * stored_px + longest) // (2 * longest), 1), tf.int32)

    return scaled(height), scaled(width)
