"""One file at a time: what is repaired, what is refused, and why."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from job.dataset.decode import decode, serves_alike
from job.dataset.example import Verdict

Encode = Callable[..., bytes]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("form", "name"), [("PNG", "a.png"), ("JPEG", "a.JPG"), ("GIF", "a.gif"), ("BMP", "a.bmp")])
def test_a_plain_image_has_nothing_to_note(encoded: Encode, form: str, name: str) -> None:
    found = decode(encoded(form=form, mode="P" if form == "GIF" else "RGB"), name)
    assert (found.verdict, found.notes, found.reason) == (Verdict.OK, (), "")
    assert found.image is not None
    assert (found.image.mode, found.image.size, found.width_px, found.height_px) == ("RGB", (24, 16), 24, 16)


@pytest.mark.parametrize(
    ("how", "name", "note", "is_alike"),
    [
        ({"form": "PNG"}, "a.jpg", "wrong extension: is PNG", True),
        ({"form": "PNG", "mode": "RGBA"}, "a.png", "alpha dropped", True),
        ({"form": "PNG", "mode": "I;16"}, "a.png", "16-bit", True),
        ({"form": "JPEG", "mode": "CMYK"}, "a.jpg", "CMYK", True),
        ({"form": "TIFF"}, "a.tif", "TensorFlow cannot decode TIFF", False),
        ({"form": "WEBP", "mode": "RGBA"}, "a.webp", "TensorFlow cannot decode WEBP with alpha", False),
        ({"form": "BMP", "mode": "P"}, "a.bmp", "TensorFlow decodes no colours of a BMP with a palette", False),
    ],
)
def test_what_is_unusual_is_noted(encoded: Encode, how: dict[str, str], name: str, note: str, is_alike: bool) -> None:
    if how.get("mode") == "I;16":
        out = io.BytesIO()
        Image.fromarray(np.full((16, 24), 40_000, np.uint16)).save(out, "PNG")
        found = decode(out.getvalue(), name)
        assert found.image is not None
        assert found.image.getpixel((0, 0)) == (40_000 >> 8,) * 3
    else:
        found = decode(encoded(**how), name)
    assert found.verdict is Verdict.OK
    assert note in "; ".join(found.notes)
    assert serves_alike("; ".join(found.notes)) is is_alike


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    upright = Image.fromarray(np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((8, 8), np.uint8)))
    undo = [None, 0, 3, 1, 5, 2, 6, 4][orientation - 1]
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "JPEG", quality=100, exif=exif)
    found = decode(out.getvalue(), "a.jpg")
    assert found.image is not None
    assert (found.width_px, found.height_px) == (24, 16)
    difference = np.abs(np.asarray(found.image.convert("L")).astype(int) - np.asarray(upright))
    assert difference.max() < 8
    assert found.notes == (() if orientation == 1 else ("rotated by EXIF",))


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_large_jpeg_is_shrunk_while_it_is_decoded_and_keeps_its_size_in_the_table(
    encoded: Encode, how: dict[str, object]
) -> None:
    found = decode(encoded(size=(401, 299), form="JPEG", **how), "a.jpg", stored_px=70)
    assert found.image is not None
    assert (found.image.mode, found.image.size) == ("RGB", (101, 75))
    assert (found.width_px, found.height_px) == (401, 299)


def test_a_shrunk_photograph_on_its_side_comes_out_upright(encoded: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(size=(401, 299), form="JPEG", exif=exif), "a.jpg", stored_px=70)
    assert found.image is not None
    assert (found.image.size, found.width_px, found.height_px) == ((75, 101), 299, 401)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_no_other_format_is_shrunk(encoded: Encode, form: str) -> None:
    found = decode(encoded(size=(401, 299), form=form, mode="P" if form == "GIF" else "RGB"), "a.img", stored_px=70)
    assert found.image is not None
    assert found.image.size == (401, 299)


def test_limits_are_those_of_the_file_not_of_what_is_made_of_it(encoded: Encode) -> None:
    data = encoded(size=(401, 299), form="JPEG")
    assert decode(data, "a.jpg", min_px=299, stored_px=70).verdict is Verdict.OK
    assert decode(data, "a.jpg", min_px=300, stored_px=70).verdict is Verdict.TOO_SMALL
    assert decode(data, "a.jpg", max_megapixels=0.1, stored_px=70).verdict is Verdict.TOO_LARGE


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # job.dataset.decode ignores it; pytest resets its filter.
def test_damaged_exif_does_not_cost_the_image(encoded: Encode) -> None:
    data = encoded(form="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(64)))
    assert decode(data, "a.jpg").verdict is Verdict.OK


def test_the_first_frame_of_an_animation_is_used(encoded: Encode) -> None:
    frames = [Image.new("P", (9, 9), color) for color in (0, 200, 90)]
    for frame in frames:
        frame.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    found = decode(out.getvalue(), "a.gif")
    assert found.notes == ("animated: first frame used",)
    assert found.image is not None
    assert found.image.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_truncated(encoded: Encode, form: str, share: float) -> None:
    data = encoded(size=(64, 64), form=form, mode="P" if form == "GIF" else "RGB")
    found = decode(data[: int(len(data) * share)], "a.img")
    # A JPEG or TIFF cut inside its header or index cannot be told from a damaged one.
    assert found.verdict in (Verdict.TRUNCATED, Verdict.CORRUPT)
    if share == 0.9:
        assert found.verdict is Verdict.TRUNCATED
    assert found.image is None
    assert found.reason


@pytest.mark.parametrize("is_progressive", [False, True])
@pytest.mark.parametrize("stored_px", [600, 300, 150, 75])
def test_a_jpeg_that_lacks_its_last_bytes_is_truncated_however_far_it_is_shrunk(
    encoded: Encode, stored_px: int, is_progressive: bool
) -> None:
    data = encoded(size=(600, 600), form="JPEG", progressive=is_progressive)
    assert decode(data, "a.jpg", stored_px=stored_px).verdict is Verdict.OK
    assert decode(data[: -len(data) // 50], "a.jpg", stored_px=stored_px).verdict is Verdict.TRUNCATED


def test_damaged_bytes_are_corrupt(encoded: Encode) -> None:
    data = bytearray(encoded(size=(64, 64)))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    assert decode(bytes(data), "a.png").verdict is Verdict.CORRUPT
    assert decode(b"\x89PNG" + bytes(40), "a.png").reason == "the header is damaged"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html><body>404", "is text"),
        (b"\0\0\0\x18ftypheic", "is HEIC"),
        (b"%PDF-1.7", "is a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "is PostScript"),
        (b"hello", "begins b'hello'"),
    ],
)
def test_what_is_no_image_is_told_by_name(data: bytes, reason: str) -> None:
    found = decode(data, "a.jpg")
    assert found.verdict is Verdict.NOT_AN_IMAGE
    assert found.reason.startswith(reason)


def test_floating_point_pixels_are_refused() -> None:
    out = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(out, "TIFF")
    assert decode(out.getvalue(), "a.tif").verdict is Verdict.NOT_AN_IMAGE


def test_sizes_are_judged_by_the_header_alone_and_pillow_stays_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = decode(png_header(30_000, 20_000), "a.png", max_megapixels=100)
        small = decode(png_header(300, 7), "a.png", min_px=8)
    assert large.verdict is Verdict.TOO_LARGE
    assert large.reason == "600.0 megapixels; at most 100 (data.max_megapixels)"
    assert (large.width_px, large.height_px) == (30_000, 20_000)
    assert small.verdict is Verdict.TOO_SMALL
    assert "300 x 7" in small.reason
