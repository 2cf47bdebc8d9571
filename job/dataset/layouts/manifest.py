"""What CSV and JSONL manifests share: finding the file, and making examples of its lines."""

from __future__ import annotations

import io
import posixpath
from array import array
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

from job.dataset.example import Example
from job.dataset.layouts.vocabulary import declared_split, is_litter, spelled, spelling, split_of
from job.dataset.reading import is_full_uri
from job.errors import DatasetError


class Line(NamedTuple):
    """One image of a manifest, as written there, in line `number` of `file`."""

    file: str
    number: int
    image: str
    label: str
    split: str

    @property
    def where(self) -> str:
        """File and line, for messages: "labels.csv, line 7"."""
        return place(self.file, self.number)


def place(file: str, number: int) -> str:
    """Returns what a line is called in messages."""
    return f"{file}, line {number}"


def files(root: Path, extensions: frozenset[str]) -> list[Path]:
    """Returns the manifest itself, or those directly in the folder, sorted by name."""
    if root.is_file():
        return [root] if root.suffix.lower() in extensions else []
    found = (path for path in root.iterdir() if path.is_file() and not is_litter(path.name))
    return sorted(path for path in found if path.suffix.lower() in extensions)


def only(root: Path, found: list[Path], *, layout: str) -> Path:
    """Returns the one manifest of a dataset.

    Raises:
        DatasetError: When there is none, or more than one.
    """
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise DatasetError(
        f"The layout {layout} needs exactly one manifest in {root.name!r}; found: {names}.",
        next_step=f"Point data.uri at the manifest itself, or leave one .{layout} file in the folder.",
    )


def open_text(path: Path) -> TextIO:
    """Returns a manifest's text, line ends as they are; UTF-8, or UTF-16 where a byte order mark says so.

    The bytes are in memory, the text is not: it may have millions of lines.

    Raises:
        DatasetError: When it is neither.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        if b"\0" in data[:4] and encoding != "utf-16":
            raise UnicodeDecodeError(encoding, data, data.index(0), data.index(0) + 1, "UTF-16 without its mark?")
        data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path.name} is not UTF-8: byte {error.start} cannot be read ({error.reason}).",
            next_step="Save the manifest as UTF-8.",
        ) from error
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="")


def examples(lines: Iterable[Line]) -> list[Example]:
    """Returns an example for each image; a line repeated word for word counts once.

    Raises:
        DatasetError: When a line has no image or label or an unknown split or an image outside the manifest's
            folder, or when an image is listed twice with different labels or splits. Names the line.
    """
    found: dict[str, Example] = {}
    numbers = array("q")
    files: list[tuple[int, str]] = []  # the first example of each file
    for line in lines:
        if not files or files[-1][1] != line.file:
            files.append((len(numbers), line.file))
        example = _example(line)
        earlier = found.setdefault(example.uri, example)
        if earlier is example:
            numbers.append(line.number)
        elif earlier != example:
            index = list(found).index(example.uri)
            file = next(name for first, name in reversed(files) if first <= index)
            raise DatasetError(
                f"{line.where} lists {line.image!r} as {line.label!r} {line.split}".rstrip()
                + f", but {place(file, numbers[index])} as {earlier.label!r} {earlier.split or ''}".rstrip()
                + ". An image has one label and one split.",
                next_step="Keep one of the two lines.",
            )
    return list(found.values())


def _example(line: Line) -> Example:
    """Returns what a line says."""
    (label, written), image = _label(line.label), line.image.strip()
    if not (image and label and _is_plain(image) and _is_plain(label)):
        raise _fault(line, image, label)
    is_uri = "://" in image and (is_full_uri(image) or image.startswith("file://"))
    uri = image if is_uri else posixpath.normpath(image.replace("\\", "/"))
    if uri == ".." or uri.startswith("../"):
        raise DatasetError(
            f"{line.where}: the image {line.image!r} lies outside the manifest's folder.",
            next_step="Move the manifest to a folder above its images, or name them by gs://, s3://, az:// or file://.",
        )
    split = (split_of(line.split) or declared_split(line.split, where=line.where)) if line.split else None
    return Example(uri, label, split, written)


# A million lines have a few labels: each is looked at once, and all lines share its string.
@lru_cache(maxsize=100_000)
def _label(written: str) -> tuple[str, str]:
    return spelled(written), spelling(written)


def _fault(line: Line, image: str, label: str) -> DatasetError:
    if not (image and label):
        missing = "label" if image else "image"
        return DatasetError(
            f"{line.where} has no {missing}; received image {line.image!r}, label {line.label!r}.",
            next_step="Complete the line or remove it.",
        )
    name, value = ("label", label) if _is_plain(image) else ("image", image)
    return DatasetError(
        f"{line.where}: the {name} {value!r} holds a NUL or what is no Unicode text.",
        next_step="Save the manifest as UTF-8 without NUL bytes.",
    )


def _is_plain(value: str) -> bool:
    # Most are ASCII, which costs nothing to find out.
    return "\0" not in value and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))
