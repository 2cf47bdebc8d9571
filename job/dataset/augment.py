"""Random changes of training images, on the device, from random numbers that are handed in.

Every function takes uniform numbers instead of drawing them, so a view is a pure function of
(image, seed, epoch, index): the same on one replica or eight, before and after a restart. Crop and flip
are one resampling; RandAugment's geometry is one projection more.

Columns of `randoms` are fixed, so that switching one change off leaves the others as they were.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from job.dataset.randaugment import randaugment

_FLIP, _AREA, _RATIO, _TOP, _LEFT, _BRIGHTNESS, _CONTRAST, _SATURATION, _MIX, _CUT_Y, _CUT_X, _WHICH = range(12)
FIRST_RANDAUGMENT_COLUMN = 12

_GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601, as in PIL's grey conversion; their sum is 1, so an offset stays what it is."""

MAX_LOG_RATIO = math.log(4 / 3)
"""Aspect ratios of a random resized crop. Source: Szegedy et al. 2014 (arXiv:1409.4842), section 6."""


def view(
    images: Any, randoms: Any, *, image_px: int, flip: bool, crop_scale: float, color: float, magnitude: int = 0
) -> Any:
    """Returns one augmented view of each image.

    Args:
        images: uint8 or float32 [B, S, S, 3], 0..255.
        randoms: float32 [B, NUM_RANDOMS] in [0, 1).
        image_px: Height and width of the result.
        magnitude: Of RandAugment; 0 is off.

    Returns:
        float32 [B, image_px, image_px, 3], 0..255.
    """
    pixels = tf.cast(images, tf.float32)
    if flip or crop_scale < 1.0 or pixels.shape[1] != image_px:
        boxes = crop_boxes(randoms, stored_px=pixels.shape[1], image_px=image_px, flip=flip, crop_scale=crop_scale)
        rows = tf.range(tf.shape(pixels)[0])
        pixels = tf.image.crop_and_resize(pixels, boxes, rows, [image_px, image_px])
    if magnitude:
        pixels = randaugment(pixels, randoms[:, FIRST_RANDAUGMENT_COLUMN:], magnitude=magnitude)
    return jitter(pixels, randoms, strength=color) if color else pixels


def crop_boxes(randoms: Any, *, stored_px: int, image_px: int, flip: bool, crop_scale: float) -> Any:
    """Returns the boxes float32 [B, 4] (y1, x1, y2, x2) for `crop_and_resize`; a flip swaps x1 and x2.

    With `crop_scale` 1 the box is a random one of the model's own size, or the whole image where the two
    sizes are equal.
    """
    if crop_scale < 1.0:
        area = crop_scale + (1.0 - crop_scale) * randoms[:, _AREA]
        root_ratio = tf.exp(MAX_LOG_RATIO * (randoms[:, _RATIO] - 0.5))
        height = tf.minimum(tf.sqrt(area) / root_ratio, 1.0)
        width = tf.minimum(tf.sqrt(area) * root_ratio, 1.0)
    else:
        height = width = tf.fill(tf.shape(randoms)[:1], image_px / stored_px)
    top = (1.0 - height) * randoms[:, _TOP]
    left = (1.0 - width) * randoms[:, _LEFT]
    y1, y2 = _corners(top, height, stored_px=stored_px, image_px=image_px)
    x1, x2 = _corners(left, width, stored_px=stored_px, image_px=image_px)
    if flip:
        mirrored = randoms[:, _FLIP] < 0.5
        x1, x2 = tf.where(mirrored, x2, x1), tf.where(mirrored, x1, x2)
    # Rounding may put a corner just outside, where crop_and_resize paints black.
    return tf.clip_by_value(tf.stack([y1, x1, y2, x2], axis=1), 0.0, 1.0)


def _corners(start: Any, side: Any, *, stored_px: int, image_px: int) -> tuple[Any, Any]:
    """Returns the first and last sample of a box in the op's unit.

    It counts from the centre of the first pixel (0) to that of the last (1), so that a box of the whole image with as
    many samples as pixels is exactly the image.
    """
    half_sample = side * stored_px / image_px / 2
    first = start * stored_px - 0.5 + half_sample
    last = (start + side) * stored_px - 0.5 - half_sample
    return first / (stored_px - 1), last / (stored_px - 1)


def jitter(images: Any, randoms: Any, *, strength: float) -> Any:
    """Returns float32 [B, H, W, 3] with brightness, contrast and saturation scaled by 1 ± strength.

    Brightness scales; contrast moves away from the image's mean, saturation from a pixel's grey. Together they are one
    linear map of a pixel. Rounding: 1e-4 of a grey level, a few tenths of one on a GPU that multiplies in TF32.
    """

    def factor(column: int) -> Any:
        return 1.0 + strength * (2.0 * randoms[:, column] - 1.0)

    brightness, contrast, saturation = factor(_BRIGHTNESS), factor(_CONTRAST), factor(_SATURATION)
    scale = (brightness * contrast)[:, None, None]
    # Column c is what a pixel's red, green and blue give to channel c.
    kept, grey = tf.eye(3)[None], tf.constant(_GREY)[None, :, None]
    matrix = scale * (kept * saturation[:, None, None] + grey * (1.0 - saturation)[:, None, None])
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    offset = (mean * brightness * (1.0 - contrast))[:, None, None, None]
    return tf.clip_by_value(_mapped(images, matrix) + offset, 0.0, 255.0)


def _mapped(images: Any, matrices: Any) -> Any:
    """Returns float32 [B, H, W, 3], each pixel times its image's matrix, of float32 [B, 3, 3].

    Up to eight pixels make one row, and their matrices a block diagonal: a product of three columns leaves most of a
    processor's registers empty and takes three times as long (11.3 and 3.4 ms for 32 images of 160 px on two cores).
    """
    height, width = images.shape[1:3]
    pixels = math.gcd(height * width, 8)
    diagonal = tf.eye(pixels)[None, :, None, :, None] * matrices[:, None, :, None, :]
    blocks = tf.reshape(diagonal, [-1, 3 * pixels, 3 * pixels])
    rows = tf.reshape(images, [-1, height * width // pixels, 3 * pixels])
    return tf.reshape(tf.matmul(rows, blocks), [-1, height, width, 3])


def mix(
    images: Any, partners: Any, targets: Any, partner_targets: Any, randoms: Any, *, mixup: float, cutmix: float
) -> tuple[Any, Any]:
    """Returns (images, targets) blended with their partners: MixUp, CutMix, or one of the two at random.

    Args:
        images: float32 [B, H, W, 3]; `partners` alike.
        targets: float32 [B, K]; `partner_targets` alike.

    Source: Zhang et al. 2017 (arXiv:1710.09412); Yun et al. 2019 (arXiv:1905.04899).
    """
    uses_cutmix = (randoms[:, _WHICH] < 0.5) if mixup and cutmix else tf.fill(tf.shape(randoms)[:1], bool(cutmix))
    share = tf.where(uses_cutmix, _beta(randoms[:, _MIX], cutmix or 1.0), _beta(randoms[:, _MIX], mixup or 1.0))
    height, width = images.shape[1], images.shape[2]
    cut = tf.sqrt(1.0 - share)
    inside_y = _inside(randoms[:, _CUT_Y], cut, height)
    inside_x = _inside(randoms[:, _CUT_X], cut, width)
    hole = inside_y[:, :, None] * inside_x[:, None, :]
    kept = tf.where(uses_cutmix[:, None, None], 1.0 - hole, share[:, None, None])[..., None]
    mixed = images * kept + partners * (1.0 - kept)
    weight = tf.reduce_mean(kept, axis=[1, 2])
    return mixed, targets * weight + partner_targets * (1.0 - weight)


def _inside(center: Any, side: Any, size: int) -> Any:
    """float32 [B, size]: 1 where the pixel lies in a box of `side` (share) around `center` (share)."""
    pixels = (tf.range(size, dtype=tf.float32) + 0.5) / size
    return tf.cast(tf.abs(pixels[None, :] - center[:, None]) < side[:, None] / 2, tf.float32)


def _beta(uniform: Any, alpha: float) -> Any:
    """Returns Beta(alpha, alpha) from uniform numbers, by its inverse distribution function on a grid."""
    grid = tf.linspace(0.0, 1.0, 1025)
    cumulative = tf.math.betainc(tf.fill([1025], float(alpha)), tf.fill([1025], float(alpha)), grid)
    upper = tf.clip_by_value(tf.searchsorted(cumulative, uniform, side="right"), 1, 1024)
    low, high = tf.gather(cumulative, upper - 1), tf.gather(cumulative, upper)
    part = tf.math.divide_no_nan(uniform - low, high - low)
    return (tf.cast(upper - 1, tf.float32) + part) / 1024.0


def center(images: Any, *, image_px: int) -> Any:
    """Returns float32 [B, image_px, image_px, 3], the centre of uint8 or float32 [B, S, S, 3]: the plain view."""
    margin = (images.shape[1] - image_px) // 2
    return tf.cast(images[:, margin : margin + image_px, margin : margin + image_px, :], tf.float32)
