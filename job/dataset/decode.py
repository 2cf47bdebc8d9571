"""From an image file's bytes to upright RGB pixels, or to the verdict why not.

The pixels are those TensorFlow decodes from the same bytes (`tf.io.decode_image`, JPEG with the accurate
DCT): a large JPEG shrunk meanwhile, alpha dropped rather than composited, 16 bits reduced to the upper 8.
Where TensorFlow differs or cannot decode, a note says so (`serves_alike`);
tests/integration/dataset/test_decode_parity.py holds the two together.
"""

from __future__ import annotations

import io
import posixpath
import warnings
from importlib import import_module
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from job.dataset.example import Verdict
from job.dataset.geometry import reduction

FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""All that is tried (JPEG stands for MPO, too). Pillow knows many more, some of which start other programs (EPS)."""

_EXTENSIONS: Final[dict[str, str]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".gif": "GIF",
    ".webp": "WEBP",
}
_KNOWN_BYTES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (4, b"ftyp", "HEIC, AVIF or a video"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"PK\x03\x04", "a .zip"),
    (0, b"<", "text (HTML, XML or SVG)"),
)
"""(offset, bytes, what it is): what people most often take for images, to be named in the reason."""

_JPEG: Final = b"\xff\xd8\xff"
_OURS: Final = (_JPEG, b"\x89PNG", b"GIF8", b"II*\x00", b"MM\x00*")
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes the image upright. Source: EXIF 2.32, tag 0x0112."""
_SIDEWAYS: Final = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
_ORIENTATION: Final = 0x0112

ROTATED: Final = "rotated by EXIF"
_TENSORFLOW: Final = "TensorFlow"

# Pillow's guard is a process-wide constant at 89 megapixels; data.max_megapixels takes its place below.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about odd metadata; what matters of it ends up in a verdict.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Decoded(NamedTuple):
    """What was found in a file.

    Attributes:
        image: RGB, upright, 8 bits a channel, perhaps shrunk; None where the verdict is not OK.
        notes: What was found but repaired (`Row.notes`).
        width_px: Of the file, upright; 0 where not even the header could be read.
    """

    image: Image.Image | None
    verdict: Verdict
    reason: str = ""
    notes: tuple[str, ...] = ()
    width_px: int = 0
    height_px: int = 0


def decode(
    data: bytes,
    name: str,
    *,
    min_px: int = 1,
    max_megapixels: float = float("inf"),
    stored_px: int | None = None,
) -> Decoded:
    """Returns the upright RGB image in `data`, or the verdict why there is none. Never raises.

    Args:
        data: The whole file.
        name: Its extension is compared with what the file is.
        min_px: Shortest side allowed, pixels.
        max_megapixels: Largest area allowed, 10^6 pixels; read from the header, before decoding.
        stored_px: Side of the square that the image is for: a JPEG is shrunk by `geometry.reduction`. None: never.
    """
    size = (0, 0)
    notes: list[str] = []
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            size = image.size
            if reason := _unfit(size, min_px, max_megapixels):
                verdict = Verdict.TOO_SMALL if min(size) < min_px else Verdict.TOO_LARGE
                return Decoded(None, verdict, reason, (), *size)
            notes += _header_notes(image, data, name)
            if stored_px is not None:
                by = reduction(*size, stored_px)
                image.draft(None, (size[0] // by, size[1] // by))  # Does nothing to other formats.
            image.load()
            if image.mode in ("I", "F"):
                reason = "32 bits a pixel have no defined range of brightness"
                return Decoded(None, Verdict.NOT_AN_IMAGE, reason, tuple(notes), *size)
            turn = _turn(image)
            rgb = _rgb(image) if turn is None else _rgb(image).transpose(turn)
    except UnidentifiedImageError:
        return _unidentified(data)
    except Exception as error:  # Pillow raises nearly every type on damaged bytes; each is a verdict on the file.
        return Decoded(None, *_damage(error, data), tuple(notes), *size)
    if turn is not None:
        notes.append(ROTATED)
    return Decoded(rgb, Verdict.OK, "", tuple(notes), *(size[::-1] if turn in _SIDEWAYS else size))


def serves_alike(notes: str) -> bool:
    """Says whether TensorFlow decodes the original bytes to the same pixels, judging by a row's notes."""
    return ROTATED not in notes and _TENSORFLOW not in notes


def _formats(data: bytes) -> tuple[str, ...]:
    """Returns what the file may be, the decoders of which are loaded or are loaded by Pillow."""
    if data.startswith(_JPEG):
        return FORMATS[:1]
    # Asked for one that it does not load by itself, Pillow loads all of its forty: 0.1 s and more in every process.
    for form in ("WebP", "Tiff"):
        import_module(f"PIL.{form}ImagePlugin")
    return FORMATS


def _unfit(size: tuple[int, int], min_px: int, max_megapixels: float) -> str:
    width, height = size
    if min(size) < min_px:
        return f"{width} x {height} pixels; the shorter side needs at least {min_px} (data.min_px)"
    if width * height > max_megapixels * 1e6:
        return f"{width * height / 1e6:.1f} megapixels; at most {max_megapixels:g} (data.max_megapixels)"
    return ""


def _header_notes(image: Image.Image, data: bytes, name: str) -> list[str]:
    form = "JPEG" if image.format == "MPO" else str(image.format)
    notes = []
    claimed = _EXTENSIONS.get(posixpath.splitext(name)[1].lower())
    if claimed is not None and claimed != form:
        notes.append(f"wrong extension: is {form}")
    is_animated = form in ("GIF", "PNG", "WEBP", "TIFF") and getattr(image, "is_animated", False)
    if is_animated:
        notes.append("animated: first frame used")
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if has_alpha:
        notes.append("alpha dropped")
    if image.mode == "CMYK":
        notes.append("CMYK")
    if image.mode.startswith("I;16") or (form == "PNG" and data[24] == 16):  # Byte 24 of a PNG is its bit depth.
        notes.append("16-bit")
    if form == "TIFF" or (form == "WEBP" and (is_animated or has_alpha)):
        notes.append(f"{_TENSORFLOW} cannot decode {form}{'' if form == 'TIFF' else ' with alpha or animation'}")
    bits = int.from_bytes(data[28:30], "little")
    if form == "BMP" and not (bits in (24, 32) or (bits == 8 and image.mode == "L")):
        notes.append(f"{_TENSORFLOW} decodes no colours of a BMP with a palette")
    return notes


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO"):
        return _rgb_of_inks(np.asarray(image), is_adobe="adobe" in image.info)
    # Pillow would mix a transparent colour into the palette's conversion and warn about it.
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _rgb_of_inks(inks: NDArray[np.uint8], *, is_adobe: bool) -> Image.Image:
    """Returns the RGB that TensorFlow makes of a CMYK JPEG: cut off where Pillow rounds, one grey level apart.

    Adobe stores the inks inverted and says so in a marker; Pillow turns them whether it is there or not.
    Source: TensorFlow, core/lib/jpeg/jpeg_mem.cc.

    Args:
        inks: uint8 [H, W, 4], as Pillow reads them.
    """
    light = 255 - inks if is_adobe else inks
    product = np.multiply(light[..., :3], light[..., 3:], dtype=np.uint16)
    return Image.fromarray((product // 255).astype(np.uint8))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged EXIF says nothing; the pixels are fine.
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _unidentified(data: bytes) -> Decoded:
    if not data:
        return Decoded(None, Verdict.NOT_AN_IMAGE, "the file is empty")
    if data.startswith(_OURS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return Decoded(None, Verdict.CORRUPT, "the header is damaged")
    known = (f"is {what}" for at, magic, what in _KNOWN_BYTES if data[at : at + len(magic)] == magic)
    reason = f"{next(known, f'begins {data[:8]!r}')}; JPEG, PNG, GIF, BMP, WebP and TIFF can be read"
    return Decoded(None, Verdict.NOT_AN_IMAGE, reason)


def _damage(error: Exception, data: bytes) -> tuple[Verdict, str]:
    reason = f"{error}" or type(error).__name__
    is_short = data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)
    if is_short or isinstance(error, EOFError) or "truncated" in reason.lower():
        return Verdict.TRUNCATED, reason
    return Verdict.CORRUPT, reason
