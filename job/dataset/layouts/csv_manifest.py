"""A table of images: `image,label[,split]` with a header line; separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from job.dataset.example import Example
from job.dataset.layouts import manifest
from job.errors import DatasetError

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "image": ("image", "image_uri", "image_path", "file_name", "filename", "path", "uri"),
    "label": ("label", "class", "class_name", "category"),
    "split": ("split", "ml_use"),
}
"""Accepted spellings of each column, in order of preference, lower case."""

EXTENSIONS: Final = frozenset({".csv", ".tsv"})
_SEPARATORS: Final = (",", ";", "\t", "|")


def recognise(root: Path) -> bool:
    """Says whether `root` is or holds a table whose header names an image and a label column."""
    return any(_has_columns(path) for path in manifest.files(root, EXTENSIONS))


def read(root: Path) -> list[Example]:
    """Returns an example a line, in the order of the file.

    Raises:
        DatasetError: When there is not exactly one table, a column is missing or a line is incomplete.
    """
    found = manifest.files(root, EXTENSIONS)
    tables = [path for path in found if _has_columns(path)] or found
    return manifest.examples(_lines(manifest.only(root, tables, layout="csv")))


def _has_columns(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    # An old Macintosh ends its lines with a carriage return alone.
    header = head.decode(encoding, errors="replace").lstrip("\r\n").replace("\r", "\n").partition("\n")[0]
    columns = _columns(header)[1]
    return "image" in columns and "label" in columns


def _columns(header: str) -> tuple[str, dict[str, int], list[str]]:
    """Returns the separator, our column name → its place, and their names: the separator that finds most wins.

    `csv.Sniffer` guesses from letter frequencies and takes file names apart; the header cannot be mistaken.
    """
    best: tuple[str, dict[str, int], list[str]] = (",", {}, [])
    for separator in _SEPARATORS:
        names = next(csv.reader([header], delimiter=separator), [])
        spelled = {name.strip().lower(): place for place, name in enumerate(names)}
        columns = {
            ours: next(spelled[theirs] for theirs in accepted if theirs in spelled)
            for ours, accepted in COLUMNS.items()
            if any(theirs in spelled for theirs in accepted)
        }
        if len(columns) > len(best[1]) or not best[2]:
            best = (separator, columns, names)
    return best


def _lines(path: Path) -> Iterator[manifest.Line]:
    text = manifest.open_text(path)
    above, header = 1, next(text, "")
    while header and not header.strip("\r\n"):
        above, header = above + 1, next(text, "")
    separator, columns, names = _columns(header.rstrip("\r\n"))
    for column in ("image", "label"):
        if column not in columns:
            raise DatasetError(
                f"{path.name} has no column {column!r}; its header names {names}, and {column} may be called "
                f"{', '.join(COLUMNS[column])}.",
                next_step="Begin the file with the line image,label or image,label,split.",
            )
    table = csv.reader(text, delimiter=separator)
    # Without a split column, its place is behind the last column of an ordinary line, where "" is put.
    image, label, split = (columns.get(name, len(names)) for name in COLUMNS)
    file, width = path.name, len(names)
    try:
        for row in table:
            if not row:
                continue
            if len(row) != width:
                row = _evened(row, width, manifest.place(file, above + table.line_num), separator)
            row.append("")
            yield manifest.Line(file, above + table.line_num, row[image], row[label], row[split])
    except csv.Error as error:
        raise DatasetError(
            f"{path.name} is not a readable table after line {above + table.line_num}: {error}.",
            next_step="Save it again as CSV, UTF-8.",
        ) from error


def _evened(row: list[str], width: int, where: str, separator: str) -> list[str]:
    """Returns a line's fields, as many as the header names: what lacks at its end is empty."""
    if any(field.strip() for field in row[width:]):
        raise DatasetError(
            f"{where} has {len(row)} fields, but the header names {width}: {row}.",
            next_step=f"Put a field that holds the separator {separator!r} in quotes.",
        )
    return (row + [""] * width)[:width]
