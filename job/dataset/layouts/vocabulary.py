"""The words all layouts share: split names, label spelling, and which files count as images.

Rule for files in a class folder: hidden names and known litter are skipped; an image extension makes
a file an example, whatever it turns out to be (the survey judges it, also a link to nothing or a pipe);
a file without an extension is an example when its first bytes are an image's; every other extension is
a sidecar and skipped.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from job.dataset.example import Example, Split
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


def spelling(label: str) -> str:
    """Returns a class name as it was written, for `Example.spelling`: "" where that is how the project spells it."""
    written = label.strip()
    return written if written != spelled(label) else ""


def check_labels(examples: Iterable[Example]) -> None:
    """Checks that the class names are text, as they go into the model, the report and the logs.

    Raises:
        DatasetError: With an empty name, or one that is not Unicode or holds a NUL. Names it.
    """
    first: dict[str, str] = {}
    for example in examples:
        first.setdefault(example.label, example.uri)
    for label, uri in first.items():
        fault = "is empty" if not label else "holds a NUL" if "\0" in label else "is not UTF-8"
        if not label or "\0" in label or not _is_text(label):
            raise DatasetError(
                f"The class name {label!r} of {uri!r} {fault}; a class name is text.",
                next_step="Rename the class folder, or correct the label.",
            )


def alike_labels(examples: Iterable[Example]) -> list[str]:
    """Returns a warning for each class that is written in several ways, and for classes that differ in case or form.

    Unicode has several forms of one text (UAX 15): "é" may be one code point or two, "ﬁ" one letter or two.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        spellings[example.label].add(example.spelling or example.label)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(spellings):
        alike[unicodedata.normalize("NFKC", label).casefold()].append(label)
    merged = [
        f"The class {label!r} is written in {len(ways)} ways that look the same, "
        f"{' and '.join(map(ascii, sorted(ways)))}; they are taken for one class."
        for label, ways in sorted(spellings.items())
        if len(ways) > 1
    ]
    apart = [
        f"The classes {' and '.join(map(ascii, labels))} differ in case or Unicode form only; they are taken for "
        f"{len(labels)} classes. Rename them if they are one."
        for labels in alike.values()
        if len(labels) > 1
    ]
    return merged + apart


def _is_text(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_litter(name: str) -> bool:
    """Says whether a file or folder is hidden or left there by an operating system."""
    return name.startswith(".") or name.lower() in _LITTER


def is_image_file(folder: str | Path, name: str) -> bool:
    """Says whether a file in a class folder is one of its images (the rule at the top of this file)."""
    if is_litter(name):
        return False
    # As Path.suffix has it, without a Path: "photo." and ".jpg" have none.
    stem, dot, extension = name.rpartition(".")
    if stem and extension:
        return f"{dot}{extension}".lower() in IMAGE_EXTENSIONS
    path = Path(folder, name)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8).startswith(_MAGIC)
