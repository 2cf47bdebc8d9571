"""`dataset.csv`: one line an image, what the survey and the split made of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from job.dataset.example import Row, Split, Verdict

COLUMNS: Final = tuple(field.name for field in fields(Row))
_VALUES: Final = attrgetter(*COLUMNS)

# File names that are not UTF-8 keep their bytes on the way through the table.
_ERRORS: Final = "surrogateescape"


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes the rows as CSV with a header line, UTF-8; the file has its final name only when it is whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", errors=_ERRORS, newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            # csv writes None as "" and a StrEnum as its value.
            table.writerows(map(values, rows))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> list[Row]:
    """Returns the rows that `write` wrote."""
    with path.open(encoding="utf-8", errors=_ERRORS, newline="") as file:
        return [row(*(line[column] for column in COLUMNS)) for line in csv.DictReader(file)]


def values(row: Row) -> tuple[Any, ...]:
    """Returns a row's fields in the order of the columns."""
    return _VALUES(row)


def row(
    index: int | str,
    uri: str,
    label: str,
    split: str | None,
    verdict: str,
    reason: str,
    notes: str,
    sha256: str,
    width_px: int | str,
    height_px: int | str,
    size_bytes: int | str,
    group: str,
) -> Row:
    """Returns the row with these values, numbers as they are or as text."""
    return Row(
        index=int(index),
        uri=uri,
        label=label,
        split=Split(split) if split else None,
        verdict=Verdict(verdict),
        reason=reason,
        notes=notes,
        sha256=sha256,
        width_px=int(width_px),
        height_px=int(height_px),
        size_bytes=int(size_bytes),
        group=group,
    )
