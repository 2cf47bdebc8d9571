"""The exported graph sees what Pillow sees: orientation, formats, resizing."""

from __future__ import annotations

import functools
import io
import struct
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from job.dataset import geometry as packing
from job.dataset.decode import decode
from job.export import decoding, exif
from job.export import resize as resizing
from job.export.decoding import Geometry

ORIENTATION = tf.function(exif.orientation, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
RESIZE = tf.function(
    resizing.resize,
    autograph=False,
    input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.int32),
    ],
)


def photo(width: int = 50, height: int = 34, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def tiff(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """EXIF with three entries, the orientation the second of them."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    entries = struct.pack(order + "HHII", 0x0100, 4, 1, 50) + struct.pack(order + "HHI", 0x0112, kind, 1) + value
    entries += struct.pack(order + "HHII", 0x0131, 4, 1, 7)
    return head + struct.pack(order + "H", 3) + entries + struct.pack(order + "I", 0)


PIXELS = {
    fit: tf.function(
        functools.partial(decoding.pixels, geometry=Geometry(fit, 70, 70)),
        autograph=False,
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    for fit in get_args(decoding.Fit)
}


def packed(data: bytes, stored_px: int, fit: decoding.Fit) -> np.ndarray:
    """Returns float32 [stored_px, stored_px, 3], as the dataset's packing makes it."""
    image = decode(data, "", stored_px=stored_px).image
    assert image is not None
    return packing.fit(image, stored_px, fit).astype(np.float32)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized_by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BILINEAR)
    return np.asarray(rows.resize((width, height), Image.Resampling.BILINEAR))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def with_exif(payload: bytes, form: str = "JPEG") -> bytes:
    options = {"lossless": True} if form == "WEBP" else {}
    return encoded(photo(), form, exif=b"Exif\0\0" + payload, **options)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_made_upright_as_pillow_does(form: str, orientation: int, order: str) -> None:
    data = with_exif(tiff(orientation, order), form)
    assert int(ORIENTATION(data)) == orientation
    upright = exif.upright(tf.io.decode_image(data, channels=3, expand_animations=False), exif.orientation(data))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if form == "JPEG":  # decode_image uses the fast transform; here only the turning matters
        assert upright.shape == expected.shape
        assert np.abs(upright.numpy().astype(int) - expected).max() <= 8
    else:
        assert np.array_equal(upright, expected)


def test_an_orientation_stored_as_a_long_is_read() -> None:
    assert int(ORIENTATION(with_exif(tiff(6, "<", kind=4)))) == 6


def test_exif_behind_other_segments_and_filling_is_found() -> None:
    data = with_exif(tiff(8))
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 500) + b"Exif\0\0" + b"\xff\xe1" * 247
    shifted = data[:2] + comment + b"\xff\xff" + data[2:]
    assert int(ORIENTATION(shifted)) == 8


def test_exif_behind_more_than_is_searched_is_found() -> None:
    data = with_exif(tiff(8))
    comments = (b"\xff\xfe" + struct.pack(">H", 2 + 60_000) + bytes(60_000)) * 5
    assert len(comments) > exif._SEARCHED
    assert int(ORIENTATION(data[:2] + comments + data[2:])) == 8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\x00",
        b"\xff\xd8\xff\xe1\x00\x02",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf",
        b"RIFF\x00\x00\x00\x00WEBPEXIF\xff\xff\xff\xff",
        b"GIF89a",
        encoded(photo(), "JPEG"),
        encoded(photo(), "PNG"),
        encoded(photo(), "WEBP"),
        encoded(photo(), "GIF"),
        with_exif(tiff(6)[:20]),
        with_exif(tiff(0)),
        with_exif(tiff(9)),
        with_exif(b"XX" + tiff(6)[2:]),
        with_exif(tiff(6)[:4] + b"\xff\xff\xff\x7f" + tiff(6)[8:]),
        with_exif(tiff(6)[:8] + b"\xff\xff"),
    ],
)
def test_missing_or_malformed_exif_means_upright(data: bytes) -> None:
    assert int(ORIENTATION(data)) == 1


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_damage_to_a_file_breaks_the_search_for_exif(draw: st.DataObject) -> None:
    data = bytearray(with_exif(tiff(6), draw.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))))
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, min(120, len(data) - 1)))] = draw.draw(st.integers(0, 255))
    del data[draw.draw(st.integers(0, len(data))) :]
    assert 1 <= int(ORIENTATION(bytes(data))) <= 8


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31)
)  # fmt: skip
def test_resizing_equals_pillow_to_the_last_bit(
    height: int, width: int, to_height: int, to_width: int, seed: int
) -> None:
    image = noise(height, width, seed)
    assert np.array_equal(RESIZE(image, to_height, to_width), resized_by_pillow(image, to_height, to_width))


@pytest.mark.parametrize(("height", "width"), [(1100, 1000), (1000, 1100), (2, 600_000)])
def test_images_of_several_strips_are_resized_to_the_last_bit(height: int, width: int) -> None:
    assert height * width > resizing._STRIP_PX
    image = noise(height, width, seed=0)
    assert np.array_equal(RESIZE(image, 64, 50), resized_by_pillow(image, 64, 50))


@pytest.mark.parametrize("size", [(224, 224), (500, 333), (37, 500), (21, 20)])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_geometry_equals_that_of_the_packed_dataset(fit: decoding.Fit, size: tuple[int, int]) -> None:
    data = encoded(photo(*size), "JPEG", quality=92)
    stored = packed(data, 40, fit)
    found = decoding.pixels(tf.constant(data), Geometry(fit, 40, 33)).numpy()
    assert found.dtype == np.float32
    assert np.array_equal(found, stored[3:36, 3:36])


@pytest.mark.parametrize("shorter", [139, 140, 141, 279, 280, 287, 559, 560, 577])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_large_jpegs_on_their_side_are_shrunk_as_the_packed_ones(fit: decoding.Fit, shorter: int) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for size in ((shorter, 601), (601, shorter)):
        data = encoded(photo(*size), "JPEG", quality=85, subsampling=2, exif=turned)
        found = PIXELS[fit](tf.constant(data)).numpy()
        assert np.array_equal(found, packed(data, 70, fit))


@pytest.mark.parametrize("shorter", [127, 128, 255, 256])
def test_a_small_square_is_made_of_64_pixels_at_least(shorter: int) -> None:
    data = encoded(photo(300, shorter), "JPEG")
    found = decoding.pixels(tf.constant(data), Geometry("squash", 40, 40)).numpy()
    assert np.array_equal(found, packed(data, 40, "squash"))


def test_a_large_jpeg_that_is_not_shrunk_would_be_noticed() -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (280, 280, 3), np.uint8)), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        whole = packing.fit(image.convert("RGB"), 70, "squash")
    found = PIXELS["squash"](tf.constant(data)).numpy()
    assert np.array_equal(found, packed(data, 70, "squash"))
    assert np.abs(found - whole).max() > 10


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "L", "RGBA", "LA", "P", "1")),
        *(("GIF", mode) for mode in ("RGB", "L", "P")),
        *(("BMP", mode) for mode in ("RGB", "L", "RGBA")),
        ("WEBP", "RGB"),
    ],
)
def test_formats_decode_as_pillow_decodes_them(form: str, mode: str) -> None:
    data = encoded(photo(40, 40).convert(mode), form)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoding.pixels(tf.constant(data), Geometry("squash", 40, 40)), expected)


def test_progressive_jpeg_with_coarse_colour_decodes_exactly() -> None:
    data = encoded(photo(64, 64), "JPEG", progressive=True, subsampling=2, quality=60)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    assert np.array_equal(decoding.pixels(tf.constant(data), Geometry("squash", 64, 64)), expected)


def test_an_animation_shows_its_first_frame() -> None:
    frames = [photo(30, 30, seed) for seed in (1, 2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoding.pixels(tf.constant(data), Geometry("squash", 30, 30)), expected)


def test_a_crop_larger_than_the_stored_image_is_refused() -> None:
    with pytest.raises(AssertionError, match="image_px is at most stored_px"):
        Geometry("squash", 32, 33)
