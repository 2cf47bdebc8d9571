"""`dataset.csv`: one line an image, what the survey and the split made of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Final

from job.dataset.example import Row, Split, Verdict

COLUMNS: Final = tuple(field.name for field in fields(Row))

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
            table.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> list[Row]:
    """Returns the rows that `write` wrote."""
    with path.open(encoding="utf-8", errors=_ERRORS, newline="") as file:
        return [
            Row(
                index=int(line["index"]),
                uri=line["uri"],
                label=line["label"],
                split=Split(line["split"]) if line["split"] else None,
                verdict=Verdict(line["verdict"]),
                reason=line["reason"],
                notes=line["notes"],
                sha256=line["sha256"],
                width_px=int(line["width_px"]),
                height_px=int(line["height_px"]),
                size_bytes=int(line["size_bytes"]),
                group=line["group"],
            )
            for line in csv.DictReader(file)
        ]
