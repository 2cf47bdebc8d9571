"""What CSV and JSONL manifests share: finding the file, and making examples of its lines."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from job.dataset.example import Example
from job.dataset.layouts.reading import is_full_uri
from job.dataset.layouts.vocabulary import declared_split, is_litter, spelled
from job.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Line:
    """One image of a manifest, as written there.

    Attributes:
        where: File and line, for messages: "labels.csv, line 7".
    """

    where: str
    image: str
    label: str
    split: str


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


def text(path: Path) -> str:
    """Returns a manifest's text; UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        DatasetError: When it is neither.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path.name} is not UTF-8: byte {error.start} cannot be read ({error.reason}).",
            next_step="Save the manifest as UTF-8.",
        ) from error


def examples(lines: Iterable[Line]) -> list[Example]:
    """Returns an example for each image; a line repeated word for word counts once.

    Raises:
        DatasetError: When a line has no image or label or an unknown split, or when an image is listed
            twice with different labels or splits. Names the line.
    """
    found: dict[str, tuple[Example, Line]] = {}
    for example, line in _each(lines):
        earlier = found.setdefault(example.uri, (example, line))
        if earlier[0] != example:
            raise DatasetError(
                f"{line.where} lists {line.image!r} as {line.label!r} {line.split}".rstrip()
                + f", but {earlier[1].where} as {earlier[1].label!r} {earlier[1].split}".rstrip()
                + ". An image has one label and one split.",
                next_step="Keep one of the two lines.",
            )
    return [example for example, _ in found.values()]


def _each(lines: Iterable[Line]) -> Iterator[tuple[Example, Line]]:
    for line in lines:
        label, image = spelled(line.label), line.image.strip()
        for value, name in ((image, "image"), (label, "label")):
            if not value:
                raise DatasetError(
                    f"{line.where} has no {name}; received image {line.image!r}, label {line.label!r}.",
                    next_step="Complete the line or remove it.",
                )
        is_uri = is_full_uri(image) or image.startswith("file://")
        uri = image if is_uri else posixpath.normpath(image.replace("\\", "/"))
        yield Example(uri, label, declared_split(line.split, where=line.where)), line
