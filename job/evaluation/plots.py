"""Pictures for the report and TensorBoard, as uint8 arrays. Pillow and numpy only.

The font is Pillow's own (Aileron); characters it lacks (Chinese, Arabic …) appear as boxes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from job.evaluation.calibration import Reliability

Picture = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_WHITE, _INK, _GREY, _LIGHT = (255, 255, 255), (32, 33, 36), (110, 113, 118), (225, 227, 230)
_BLUE, _RED = (25, 103, 210), (197, 34, 31)
_FONT_PX = 13
_CELL_PX = 34
_MARGIN_PX = 14


def png(picture: Picture) -> bytes:
    """Returns the picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def confusion_matrix(
    confusion: npt.NDArray[np.integer[Any]], classes: Sequence[str], *, max_classes: int = 40
) -> Picture:
    """Draws the confusion matrix: rows true, columns predicted; right answers blue, wrong ones red.

    The depth of a colour is the share of the row, the number is the count. With more classes than `max_classes`
    those with the most confusions are shown, and the heading says so.

    Args:
        confusion: int64 [K, K].
        classes: K names, in label order.
        max_classes: At least 1.

    Returns:
        uint8 [H, W, 3].
    """
    matrix = np.asarray(confusion, np.int64)
    shown = _most_confused(matrix, max_classes)
    names = [_shorten(classes[i]) for i in shown]
    support = np.maximum(matrix.sum(axis=1), 1)
    font = _font(_FONT_PX)
    names_px = max(int(font.getlength(name)) for name in names)
    grid_px = _CELL_PX * len(shown)
    heading = "rows: true, columns: predicted"
    if len(shown) < len(classes):
        heading += f" ({len(shown)} of {len(classes)} classes, the most confused)"
    left, top = names_px + 2 * _MARGIN_PX, names_px + 3 * _MARGIN_PX + _FONT_PX
    width = max(left + grid_px, int(font.getlength(heading)) + _MARGIN_PX) + _MARGIN_PX
    image = Image.new("RGB", (width, top + grid_px + _MARGIN_PX), _WHITE)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN_PX, _MARGIN_PX), heading, fill=_GREY, font=font)
    for at, name in enumerate(names):
        middle = at * _CELL_PX + _CELL_PX // 2
        draw.text((left - 6, top + middle), name, fill=_INK, font=font, anchor="rm")
        _upright_text(image, name, font, (left + middle, top - 6))
    for row, true in enumerate(shown):
        for column, guess in enumerate(shown):
            corner = (left + column * _CELL_PX, top + row * _CELL_PX)
            share = float(matrix[true, guess] / support[true])
            colour = _mix(_WHITE, _BLUE if true == guess else _RED, share**0.5)
            draw.rectangle((*corner, corner[0] + _CELL_PX - 1, corner[1] + _CELL_PX - 1), fill=colour, outline=_LIGHT)
            if matrix[true, guess]:
                middle_xy = (corner[0] + _CELL_PX // 2, corner[1] + _CELL_PX // 2)
                ink = _WHITE if share > 0.4 else _INK
                draw.text(middle_xy, _count(int(matrix[true, guess])), fill=ink, font=_font(11), anchor="mm")
    return np.asarray(image)


def contact_sheet(
    images: Sequence[Picture], captions: Sequence[Sequence[str]], *, columns: int = 4, tile_px: int = 160
) -> Picture:
    """Draws images in rows, each with its caption lines below it.

    Args:
        images: M pictures, uint8 [H, W, 3] of any sizes; M >= 1.
        captions: M lists of lines; each line is cut to the tile's width.
        columns: Images a row, at least 1.
        tile_px: Side of the square an image is fitted into.

    Returns:
        uint8 [H, W, 3].
    """
    assert len(images) == len(captions) >= 1, "a contact sheet needs images, and a caption for each"
    columns = min(columns, len(images))
    font = _font(_FONT_PX)
    line_px = _FONT_PX + 4
    tile_height = tile_px + line_px * max(len(lines) for lines in captions) + 6
    rows = -(-len(images) // columns)
    step_x, step_y = tile_px + _MARGIN_PX, tile_height + _MARGIN_PX
    sheet = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for at, (picture, lines) in enumerate(zip(images, captions, strict=True)):
        x, y = _MARGIN_PX + at % columns * step_x, _MARGIN_PX + at // columns * step_y
        tile = Image.fromarray(picture)
        scale = tile_px / max(tile.size)
        tile = tile.resize((max(1, round(tile.width * scale)), max(1, round(tile.height * scale))))
        sheet.paste(tile, (x + (tile_px - tile.width) // 2, y + (tile_px - tile.height) // 2))
        for number, line in enumerate(lines):
            ink = _GREY if number == 0 else _INK
            draw.text((x, y + tile_px + 4 + number * line_px), _fitting(line, font, tile_px), fill=ink, font=font)
    return np.asarray(sheet)


def reliability_diagram(before: Reliability, after: Reliability, *, side_px: int = 320) -> Picture:
    """Draws confidence against accuracy before (grey) and after (blue) temperature scaling.

    A point is a bin with images in it, the larger the more of them; on the diagonal it is calibrated.

    Args:
        before: Of the logits as trained.
        after: Of the logits divided by the temperature.
        side_px: Of the square plot, without its margins.

    Returns:
        uint8 [H, W, 3].
    """
    font = _font(_FONT_PX)
    left, top = 46, 52
    image = Image.new("RGB", (left + side_px + 24, top + side_px + 46), _WHITE)
    draw = ImageDraw.Draw(image)
    for tenth in range(0, 11, 2):
        at = round(side_px * tenth / 10)
        draw.line((left + at, top, left + at, top + side_px), fill=_LIGHT)
        draw.line((left, top + at, left + side_px, top + at), fill=_LIGHT)
        draw.text((left + at, top + side_px + 6), f"{tenth / 10:.1f}", fill=_GREY, font=font, anchor="mt")
        draw.text((left - 6, top + side_px - at), f"{tenth / 10:.1f}", fill=_GREY, font=font, anchor="rm")
    draw.line((left, top + side_px, left + side_px, top), fill=_GREY)
    draw.text((left + side_px // 2, top + side_px + 26), "confidence", fill=_INK, font=font, anchor="mt")
    draw.text((6, 8), "accuracy", fill=_INK, font=font)
    for line, (name, one, colour) in enumerate((("before", before, _GREY), ("after", after, _BLUE))):
        draw.text((left + 60 + line * 130, 8), f"{name}: ECE {one.ece:.3f}", fill=colour, font=font)
        for x, y, count in zip(one.confidence, one.accuracy, one.counts, strict=True):
            if count:
                radius = 2.0 + 7.0 * float(np.sqrt(count / one.counts.sum()))
                middle = (left + x * side_px, top + side_px - y * side_px)
                box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
                draw.ellipse(box, fill=colour, outline=_WHITE)
    return np.asarray(image)


def _most_confused(matrix: npt.NDArray[np.int64], limit: int) -> list[int]:
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
    return sorted(int(i) for i in np.argsort(-wrong, kind="stable")[:limit])


def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _shorten(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _fitting(line: str, font: Font, width_px: int) -> str:
    kept = line
    while kept and font.getlength(kept if kept == line else kept + "…") > width_px:
        kept = kept[:-1]
    return kept if kept == line else kept + "…"


def _count(number: int) -> str:
    return str(number) if number < 10_000 else f"{number // 1000}k"


def _mix(start: tuple[int, int, int], end: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _upright_text(image: Image.Image, text: str, font: Font, bottom_middle: tuple[int, int]) -> None:
    """Writes text from bottom to top, ending above `bottom_middle`."""
    strip = Image.new("RGB", (int(font.getlength(text)) + 2, _FONT_PX + 6), _WHITE)
    ImageDraw.Draw(strip).text((0, strip.height // 2), text, fill=_INK, font=font, anchor="lm")
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(turned, (bottom_middle[0] - turned.width // 2, bottom_middle[1] - turned.height))
