"""What the rooms of the dataset hand to each other: an example as found, a row as surveyed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Verdict(StrEnum):
    """Whether an image is used. Everything but OK is quarantined: named, counted, never deleted."""

    OK = "ok"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not an image"
    TOO_SMALL = "too small"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    OUTSIDE = "outside"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image as a layout found it.

    Attributes:
        uri: Names the image for people and is unique in the dataset: a path relative to the dataset folder, a
            full URI, or `shard.tfrecord#17`.
        label: The class name, NFC-normalised, never empty.
        split: What the data itself says, or None.
        spelling: The class name as the data writes it, where that differs from the label; "" where not.
    """

    uri: str
    label: str
    split: Split | None = None
    spelling: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `dataset.csv`: an example after its image was decoded once.

    Attributes:
        index: Position in the dataset, 0-based; also the row of the packed pixels.
        sha256: Of the file's bytes, hex; "" where the file is missing.
        notes: What was found but repaired, joined by "; ": "wrong extension: is PNG", "rotated by EXIF",
            "CMYK", "16-bit", "animated: first frame used", "duplicate of cat/1.jpg", "near-duplicate of cat/2.jpg".
        reason: Why the verdict is not OK; "" otherwise.
        width_px: Upright, as stored in the file; 0 where it could not be decoded.
        group: The smallest sha256 among the near-duplicates it belongs to; "" where it has none.
    """

    index: int
    uri: str
    label: str
    split: Split | None
    verdict: Verdict
    reason: str
    notes: str
    sha256: str
    width_px: int
    height_px: int
    size_bytes: int
    group: str = ""

    @property
    def content(self) -> str:
        """What all copies of the image share, byte for byte or nearly."""
        return self.group or self.sha256
