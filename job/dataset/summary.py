"""The dataset in numbers, for the report and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from job.dataset.example import Row, Split, Verdict


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of images.

    Attributes:
        num_bad: Quarantined, whatever the verdict.
        verdicts: Verdict → images, of the quarantined ones.
        repairs: Note → images, of the usable ones ("rotated by EXIF", "wrong extension", …).
        num_duplicates: Usable images whose bytes were there before.
        num_near_duplicates: Usable images that show the same as another file before them.
        num_contradictions: Of both, under another label.
        left_out: Split → images that the data has there and that are not counted, as a copy is in another split.
        splits: Split → images.
        classes: Class → split → images, classes sorted.
        split_note: How the split came about.
        warnings: What is probably a mistake, a sentence each.
    """

    num_images: int
    num_ok: int
    num_bad: int
    verdicts: dict[str, int]
    repairs: dict[str, int]
    num_duplicates: int
    num_near_duplicates: int
    num_contradictions: int
    left_out: dict[str, int]
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    split_note: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values, for JSON."""
        return asdict(self)


_COUNTED_APART = ("duplicate of", "near-duplicate of", "left out of")


def summarise(rows: Sequence[Row], *, split_note: str, warnings: Sequence[str] = ()) -> Summary:
    """Returns the counts of a surveyed and split dataset."""
    ok = [row for row in rows if row.verdict is Verdict.OK]
    notes = [note.partition(":")[0] for row in ok for note in row.notes.split("; ") if note]
    left_out = Counter(note.removeprefix("left out of ") for note in notes if note.startswith("left out of "))
    by_class = Counter((row.label, row.split) for row in ok)
    labels = sorted({row.label for row in ok})
    return Summary(
        num_images=len(rows),
        num_ok=len(ok),
        num_bad=len(rows) - len(ok),
        verdicts=dict(Counter(str(row.verdict) for row in rows if row.verdict is not Verdict.OK).most_common()),
        repairs=dict(Counter(note for note in notes if not note.startswith(_COUNTED_APART)).most_common()),
        num_duplicates=sum(note.startswith("duplicate of ") for note in notes),
        num_near_duplicates=sum(note.startswith("near-duplicate of ") for note in notes),
        num_contradictions=sum(", which is labelled" in row.notes for row in ok),
        left_out=dict(left_out),
        splits={str(split): sum(row.split is split for row in ok) for split in Split},
        classes={label: {str(split): by_class[label, split] for split in Split} for label in labels},
        split_note=split_note,
        warnings=tuple(warnings),
    )
