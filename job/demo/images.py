"""The demo's data: JPEG photographs of parts with one of five kinds of defect, made on the spot.

Every picture is a pure function of (seed, class, index, size). `write_dataset` leaves class folders as they come from a
real shop floor: of mixed sizes and qualities, and with the five odd files of `ODD_FILES` among them, for the
survey to find.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from job.demo.defects import DEFECTS, inflict
from job.demo.parts import scene
from job.demo.surface import photograph

CLASSES: Final[tuple[str, ...]] = tuple(DEFECTS)  # crack, dent, hole, scratch, stain

# What is wrong with the odd files, by their path below the dataset's folder. The first two cannot be decoded; the
# others can, and are what a careless reader gets wrong.
ODD_FILES: Final[Mapping[str, str]] = {
    "crack/crack-truncated.jpg": "a JPEG cut off in the middle, as an interrupted copy leaves it",
    "dent/dent-notes.jpg": "a text file under the name of a JPEG",
    "hole/hole-screenshot.jpg": "a PNG under the name of a JPEG",
    "scratch/scratch-upright.jpg": "stored lying on its side, with the EXIF orientation that sets it upright",
    "stain/stain-copy.jpg": "a byte for byte copy of stain/stain-0000.jpg",
}

_SIZES_PX = (112, 128, 144, 160)
_EXIF_ORIENTATION = 0x0112  # Exif 2.32, table 4; 6 = turn by 90 degrees clockwise to view


def render(class_name: str, index: int, *, seed: int, size_px: int) -> Image.Image:
    """Returns picture `index` of a class: RGB, `size_px` squared, the same for the same arguments.

    Raises:
        ValueError: When `class_name` is not one of `CLASSES`.
    """
    if class_name not in CLASSES:
        raise ValueError(f"no such class of defect: {class_name!r}; allowed: {', '.join(CLASSES)}")
    rng = np.random.default_rng([seed, CLASSES.index(class_name), index])
    part = scene(rng, size_px)
    inflict(class_name, part, rng)
    return photograph(part.surface, rng)


def encode(class_name: str, index: int, *, seed: int) -> bytes:
    """Returns picture `index` of a class as a JPEG file, of a size of 112..160 px and a quality of 60..95."""
    # The fourth number keeps this stream apart from the one that draws the picture.
    rng = np.random.default_rng([seed, CLASSES.index(class_name), index, 1])
    picture = render(class_name, index, seed=seed, size_px=int(rng.choice(_SIZES_PX)))
    return _jpeg(picture, quality=int(rng.integers(60, 96)))


def _jpeg(picture: Image.Image, *, quality: int, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, exif=exif or Image.Exif())
    return buffer.getvalue()


def write_dataset(folder: Path, *, per_class: int, seed: int) -> None:
    """Writes `folder/<class>/<class>-0000.jpg` and so on, and the five `ODD_FILES`.

    A second call with the same arguments writes the same bytes (for the same version of Pillow).

    Args:
        folder: Made where it is missing.
        per_class: Good pictures in each class, 1 or more; the odd files come on top.
        seed: Another seed gives other pictures.
    """
    for class_name in CLASSES:
        (folder / class_name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            (folder / class_name / f"{class_name}-{index:04d}.jpg").write_bytes(encode(class_name, index, seed=seed))
    for path, content in _odd_contents(folder, index=per_class, seed=seed).items():
        (folder / path).write_bytes(content)


def _odd_contents(folder: Path, *, index: int, seed: int) -> dict[str, bytes]:
    """Returns the bytes of `ODD_FILES`, made from the pictures after the last good one."""
    truncated = encode("crack", index, seed=seed)
    png = io.BytesIO()
    render("hole", index, seed=seed, size_px=128).save(png, "PNG")
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6
    lying = render("scratch", index, seed=seed, size_px=128).transpose(Image.Transpose.ROTATE_90)
    return {
        "crack/crack-truncated.jpg": truncated[: len(truncated) // 2],
        "dent/dent-notes.jpg": b"dents found by the night shift: see the notebook\n",
        "hole/hole-screenshot.jpg": png.getvalue(),
        "scratch/scratch-upright.jpg": _jpeg(lying, quality=90, exif=exif),
        "stain/stain-copy.jpg": (folder / "stain" / "stain-0000.jpg").read_bytes(),
    }


def write_new_images(folder: Path, num: int = 3, *, seed: int = 1_000_003) -> list[Path]:
    """Writes pictures that no dataset of another seed contains, and returns their paths.

    Each is named by what it shows, `new-1-crack.jpg`, so that a prediction can be checked by eye; the classes take
    turns, spread over all five.

    Args:
        folder: Made where it is missing.
        num: How many.
        seed: Not the one that `write_dataset` got.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(num):
        class_name = CLASSES[index * 2 % len(CLASSES)]  # 2 and 5 have no common divisor: all classes come round
        path = folder / f"new-{index + 1}-{class_name}.jpg"
        path.write_bytes(encode(class_name, index, seed=seed))
        paths.append(path)
    return paths
