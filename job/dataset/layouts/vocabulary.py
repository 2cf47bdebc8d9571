"""The words all layouts share: split names, label spelling, and which files count as images.

Rule for files in a class folder: hidden names and known litter are skipped; an image extension makes
a file an example, whatever its bytes turn out to be (the survey judges them); a file without an
extension is an example when its first bytes are an image's; every other extension is a sidecar and
skipped.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Final

from job.dataset.example import Split
from job.errors import DatasetError, nearest

SPLIT_WORDS: Final[dict[str, Split]] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "validation": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "val": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}
"""What a folder, a column or a shard name may call a split, lower case."""

UNASSIGNED: Final = frozenset({"", "unassigned"})
"""What a manifest writes where it leaves the split to the job; the second is Vertex AI's word."""

IMAGE_EXTENSIONS: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif", ".jxl", ".jp2"}
)
"""The second line cannot be decoded: those images are quarantined by name rather than overlooked."""

_LITTER: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


def split_of(word: str) -> Split | None:
    """Returns the split a word names, or None where it names none."""
    return SPLIT_WORDS.get(word.strip().lower())


def declared_split(word: str, *, where: str) -> Split | None:
    """Returns the split a manifest gives, or None where it leaves it open.

    Args:
        word: As written in the manifest.
        where: File and line, for the message.

    Raises:
        DatasetError: When the word names no split.
    """
    split = split_of(word)
    if split is None and word.strip().lower() not in UNASSIGNED:
        raise DatasetError(
            f"{where} gives the split {word!r}; allowed are {', '.join(SPLIT_WORDS)}, or nothing."
            f"{nearest(word.strip().lower(), SPLIT_WORDS)}",
            next_step="Correct the split in the manifest, or leave it empty to have the job choose.",
        )
    return split


def spelled(label: str) -> str:
    """Returns a class name as the project spells it: NFC-normalised, without surrounding white space.

    macOS writes folder names decomposed (NFD), so that "café" would otherwise be two classes.
    """
    return unicodedata.normalize("NFC", label).strip()


def is_litter(name: str) -> bool:
    """Says whether a file or folder is hidden or left there by an operating system."""
    return name.startswith(".") or name.lower() in _LITTER


def is_image_file(path: Path) -> bool:
    """Says whether a file in a class folder is one of its images (the rule at the top of this file)."""
    if is_litter(path.name):
        return False
    if path.suffix:
        return path.suffix.lower() in IMAGE_EXTENSIONS
    with path.open("rb") as file:
        return file.read(8).startswith(_MAGIC)
