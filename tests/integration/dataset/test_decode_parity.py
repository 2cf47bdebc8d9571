"""Pillow at the survey and TensorFlow in the exported model see the same pixels, or a note says that they do not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from job.dataset.decode import decode, serves_alike
from job.dataset.example import Verdict


def drawing(width: int = 77, height: int = 51) -> np.ndarray:
    rng = np.random.default_rng(0)
    walk = np.cumsum(np.cumsum(rng.normal(0, 3, (height, width, 4)), 0), 1) / 4 + 128
    return np.clip(walk, 0, 255).astype(np.uint8)


def encoded(form: str, mode: str = "RGB", **how: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(drawing()[..., :3])
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(drawing())
    image.convert(mode).save(out, form, **how)
    return out.getvalue()


def printed(width: int = 77, height: int = 51, **how: Any) -> bytes:
    """A CMYK JPEG with black ink in it; RGB converted by Pillow has none."""
    out = io.BytesIO()
    inks = [Image.fromarray(drawing(width, height)[..., ink]) for ink in range(4)]
    Image.merge("CMYK", inks).save(out, "JPEG", **how)
    return out.getvalue()


def without_adobe(data: bytes) -> bytes:
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    return data[:start] + data[start + 16 :]


def ycck(cmyk: bytes) -> bytes:
    """The same file under a marker that says that it is YCCK (Adobe, Technical Note 5116: transform 2)."""
    data = bytearray(cmyk)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    return bytes(data)


def sixteen_bits(channels: int) -> bytes:
    pixels = drawing()[..., :channels].astype(np.uint16) * 257 - np.arange(77, dtype=np.uint16)[:, None]
    data: bytes = tf.io.encode_png(tf.constant(pixels)).numpy()
    return data


def animated() -> bytes:
    return encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (77, 51), 9)])


EXIF = Image.Exif()
EXIF[0x0112] = 6

ALIKE = {
    "jpeg": encoded("JPEG", quality=90),
    "jpeg 4:2:0": encoded("JPEG", subsampling=2),
    "jpeg progressive": encoded("JPEG", progressive=True),
    "jpeg grey": encoded("JPEG", "L"),
    "jpeg CMYK": printed(),
    "jpeg CMYK without Adobe's marker": without_adobe(printed()),
    "jpeg YCCK": ycck(printed()),
    "png": encoded("PNG"),
    "png grey": encoded("PNG", "L"),
    "png black and white": encoded("PNG", "1"),
    "png palette": encoded("PNG", "P"),
    "png palette with transparency": encoded("PNG", "P", transparency=3),
    "png alpha": encoded("PNG", "RGBA"),
    "png grey alpha": encoded("PNG", "LA"),
    "png 16-bit": sixteen_bits(3),
    "png 16-bit grey": sixteen_bits(1),
    "gif": encoded("GIF", "P"),
    "gif animated": animated(),
    "bmp": encoded("BMP"),
    "bmp grey": encoded("BMP", "L"),
    "webp": encoded("WEBP", quality=90),
    "webp lossless": encoded("WEBP", lossless=True),
}
DIFFERENT = {
    "jpeg rotated": encoded("JPEG", exif=EXIF),
    "bmp palette": encoded("BMP", "P"),
    "bmp black and white": encoded("BMP", "1"),
    "webp alpha": encoded("WEBP", "RGBA"),
    "webp animated": encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (77, 51))]),
    "tiff": encoded("TIFF"),
}


def in_tensorflow(data: bytes) -> np.ndarray:
    """As the exported model does: JPEG with the accurate DCT (decode_image uses the fast one)."""
    if data.startswith(b"\xff\xd8\xff"):
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    else:
        pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
    result: np.ndarray = pixels.numpy()
    return result


@pytest.mark.parametrize("name", ALIKE)
def test_the_pixels_are_equal(name: str) -> None:
    found = decode(ALIKE[name], "")
    assert found.verdict is Verdict.OK
    np.testing.assert_array_equal(np.asarray(found.image), in_tensorflow(ALIKE[name]))
    assert serves_alike("; ".join(found.notes))


@pytest.mark.parametrize("name", DIFFERENT)
def test_where_the_pixels_differ_a_note_says_so(name: str) -> None:
    found = decode(DIFFERENT[name], "")
    assert found.verdict is Verdict.OK
    assert not serves_alike("; ".join(found.notes))
    try:
        theirs = in_tensorflow(DIFFERENT[name])
    except tf.errors.InvalidArgumentError:
        return
    ours = np.asarray(found.image)
    assert ours.shape != theirs.shape or np.abs(ours.astype(int) - theirs).max() > 20


def large(mode: str = "RGB", **how: Any) -> bytes:
    """A JPEG no side of which is a multiple of what is decoded at a time (16 x 16 pixels at most)."""
    out = io.BytesIO()
    Image.fromarray(drawing(605, 517)[..., :3]).convert(mode).save(out, "JPEG", **how)
    return out.getvalue()


SHRUNK = {
    **{f"4:{name} quality {quality}": large(quality=quality, subsampling=subsampling)
       for subsampling, name in enumerate(("4:4", "2:2", "2:0")) for quality in (30, 95)},
    "progressive": large(progressive=True, subsampling=2),
    "grey": large("L"),
    "CMYK": printed(605, 517),
    "CMYK progressive": printed(605, 517, progressive=True),
    "CMYK without Adobe's marker": without_adobe(printed(605, 517)),
    "YCCK": ycck(printed(605, 517)),
    "RGB without conversion": large(keep_rgb=True),
    "restart markers": large(restart_marker_blocks=5),
}  # fmt: skip


@pytest.mark.parametrize("stored_px", [259, 258, 129, 64])
@pytest.mark.parametrize("name", SHRUNK)
def test_a_jpeg_is_shrunk_to_the_same_pixels(name: str, stored_px: int) -> None:
    by = {259: 1, 258: 2, 129: 4, 64: 8}[stored_px]
    theirs = tf.io.decode_jpeg(SHRUNK[name], channels=3, ratio=by, dct_method="INTEGER_ACCURATE").numpy()
    assert theirs.shape == (-(-517 // by), -(-605 // by), 3)
    np.testing.assert_array_equal(np.asarray(decode(SHRUNK[name], "", stored_px=stored_px).image), theirs)


def test_real_photographs_are_shrunk_to_the_same_pixels(assets: Path) -> None:
    paths = sorted(assets.glob("data/flowers12/test/*/*.jpg"))[::10]
    assert len(paths) == 24
    for number, path in enumerate(paths):
        data = path.read_bytes()
        with Image.open(path) as image:
            enlarged = io.BytesIO()
            image.resize((900, 700), Image.Resampling.LANCZOS).save(enlarged, "JPEG", quality=40 + 2 * number)
        for file, stored_px, by in ((data, 112, 2), *((enlarged.getvalue(), px, 700 // px) for px in (350, 175, 87))):
            theirs = tf.io.decode_jpeg(file, channels=3, ratio=by, dct_method="INTEGER_ACCURATE").numpy()
            np.testing.assert_array_equal(np.asarray(decode(file, "", stored_px=stored_px).image), theirs)
