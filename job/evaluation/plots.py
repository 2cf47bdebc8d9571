"""Pictures for the report and TensorBoard, as uint8 arrays. Pillow and numpy only.

The font is Pillow's own (a part of Aileron, little more than ASCII): letters lose their accents, and what it lacks
altogether (Chinese, Arabic …) appears as boxes. The report's page writes all names as text beside the pictures.
"""

from __future__ import annotations

import io
import unicodedata
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
        max_classes: At least 2.

    Returns:
        uint8 [H, W, 3].
    """
    matrix = np.asarray(confusion, np.int64)
    shown = most_confused(matrix, max_classes)
    names = [_shorten(_drawable(classes[i])) for i in shown]
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
        captions: M lists of lines; a line too long for the tile goes on below, and is cut after that.
        columns: Images a row, at least 1.
        tile_px: Side of the square an image is fitted into.

    Returns:
        uint8 [H, W, 3].
    """
    assert len(images) == len(captions) >= 1, "a contact sheet needs images, and a caption for each"
    columns = min(columns, len(images))
    font = _font(_FONT_PX)
    line_px = _FONT_PX + 4
    broken = [
        [(part, _GREY if number == 0 else _INK) for number, line in enumerate(lines) for part in _broken(line, tile_px)]
        for lines in captions
    ]
    tile_height = tile_px + line_px * max(map(len, broken)) + 6
    rows = -(-len(images) // columns)
    step_x, step_y = tile_px + _MARGIN_PX, tile_height + _MARGIN_PX
    sheet = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for at, (picture, lines) in enumerate(zip(images, broken, strict=True)):
        x, y = _MARGIN_PX + at % columns * step_x, _MARGIN_PX + at // columns * step_y
        tile = Image.fromarray(picture)
        scale = tile_px / max(tile.size)
        tile = tile.resize((max(1, round(tile.width * scale)), max(1, round(tile.height * scale))))
        sheet.paste(tile, (x + (tile_px - tile.width) // 2, y + (tile_px - tile.height) // 2))
        for number, (line, ink) in enumerate(lines):
            draw.text((x, y + tile_px + 4 + number * line_px), line, fill=ink, font=font)
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


def most_confused(confusion: npt.NDArray[np.integer[Any]], limit: int) -> list[int]:
    """Returns at most `limit` classes (2 or more), ascending: those of the pairs most often taken for each other.

    Whole pairs, because a class is shown for its confusions, and those need the other class beside it.
    """
    matrix = np.asarray(confusion, np.int64)
    if len(matrix) <= limit:
        return list(range(len(matrix)))
    pairs = np.triu(matrix + matrix.T, k=1)
    order = np.argsort(-pairs, axis=None, kind="stable")
    found: dict[int, None] = {}
    for one, other in zip(*np.unravel_index(order, pairs.shape), strict=True):
        new = {int(one), int(other)} - found.keys()
        if len(found) + len(new) <= limit:
            found |= dict.fromkeys(new)
        if len(found) == limit:
            break
    return sorted(found)


def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _drawable(text: str) -> str:
    """Returns text in the letters that the font has, as far as they can be had by leaving accents out."""
    plain = unicodedata.normalize("NFKD", text.replace("→", ">"))
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _shorten(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _broken(line: str, width_px: int) -> list[str]:
    """Returns one or two lines that fit, broken between words where there are any."""
    font, line = _font(_FONT_PX), _drawable(line)
    if font.getlength(line) <= width_px:
        return [line]
    words = line.split(" ")
    fitting = [count for count in range(1, len(words)) if font.getlength(" ".join(words[:count])) <= width_px]
    if not fitting:
        return [_fitting(line, font, width_px)]
    return [" ".join(words[: fitting[-1]]), _fitting(" ".join(words[fitting[-1] :]), font, width_px)]


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
