"""How an image becomes the square that is stored; the exported model does the same in TensorFlow.

A JPEG much larger than the square is shrunk while it is decoded (`reduction`), in half the time and a quarter of the
memory or less. Only the low frequencies of its cosine transform are inverted, which is a good low-pass filter, and what
comes out is no smaller than the square: the resize below takes it from there. Pillow and TensorFlow both leave that to
libjpeg, which computes with whole numbers, so both get the same.

The exported graph repeats Pillow's BILINEAR exactly (`export/resize.py`). That is
`round(tf.image.resize(float32, method="bilinear", antialias=True))` within one grey level: the same triangle
filter, widened by the scale, but rounded to 8 bits after each pass.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FitMode = Literal["squash", "crop", "pad"]

_REDUCTIONS: Final = (8, 4, 2)
_LEAST_PX: Final = 64
"""What a shrunk image has at least, so that its perceptual hash is that of the picture."""


def reduction(width: int, height: int, stored_px: int) -> int:
    """Returns by what a JPEG's sides are divided while it is decoded: 1, 2, 4 or 8.

    The largest one that leaves the shorter side `stored_px` and 64 pixels, for every fit mode.

    Args:
        width: As its header says, pixels, before EXIF turns it.
        height: The same.
    """
    return next((by for by in _REDUCTIONS if min(width, height) // by >= max(stored_px, _LEAST_PX)), 1)


def crop_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of the central square, pixels; an odd rest is cut right and below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def padded_size(width: int, height: int, stored_px: int) -> tuple[int, int]:
    """Returns the (width, height) that keeps the aspect ratio and whose longer side is `stored_px`.

    The shorter side is rounded to the nearest whole pixel (half up, in integers) and is at least 1.
    """
    longest = max(width, height)

    def scaled(side: int) -> int:
        return max(1, (2 * side * stored_px + longest) // (2 * longest))

    return scaled(width), scaled(height)


def fit(image: Image.Image, stored_px: int, mode: FitMode) -> NDArray[np.uint8]:
    """Returns the image as a square: uint8 [S, S, 3] with S = `stored_px`."""
    return np.asarray(square(image, stored_px, mode), dtype=np.uint8)


def square(image: Image.Image, stored_px: int, mode: FitMode) -> Image.Image:
    """Returns the image as a square of `stored_px`.

    Args:
        image: RGB, upright.
        mode: "squash" scales both sides; "crop" takes the central square first; "pad" keeps the aspect
            ratio and fills with black, the odd pixel right and below.
    """
    if mode == "crop":
        image = image.crop(crop_box(*image.size))
    size = padded_size(*image.size, stored_px) if mode == "pad" else (stored_px, stored_px)
    # Rows first, then columns: asked for both at once, Pillow 13 takes the cheaper order, and the rounding differs.
    scaled = image
    for step in ((size[0], image.height), size):
        scaled = scaled if scaled.size == step else scaled.resize(step, Image.Resampling.BILINEAR)
    if mode == "pad":
        canvas = Image.new("RGB", (stored_px, stored_px))
        canvas.paste(scaled, ((stored_px - size[0]) // 2, (stored_px - size[1]) // 2))
        scaled = canvas
    return scaled
