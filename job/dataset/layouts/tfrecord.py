"""TFRecord shards of `tf.train.Example` with `image/encoded` and `image/class/label` or `image/class/text`.

Read without TensorFlow, by (shard, offset). Listing walks over the records without touching the image
bytes; a record's checksum is verified when its image is read, so one damaged record is one quarantined
image. A damaged length loses everything behind it and is an error.

A record is: uint64 length, uint32 masked crc32c of it, the data, uint32 masked crc32c of the data.
Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Final, NamedTuple

import google_crc32c

from job.dataset.example import Example, Split
from job.dataset.layouts import wire
from job.dataset.layouts.vocabulary import is_litter, spelled, spelling, split_of
from job.dataset.reading import UnreadableRecordError, as_text, named
from job.errors import DatasetError

_NAME: Final = re.compile(r"(\.tfrecords?|\.tfrec)($|[-.])|-\d{5}-of-\d{5}$")
_HEADER: Final = struct.Struct("<QI")
_CRC: Final = struct.Struct("<I")
_IMAGE, _LABEL, _TEXT = "image/encoded", "image/class/label", "image/class/text"


def recognise(root: Path) -> bool:
    """Says whether `root` is a shard or has one in or below it."""
    return bool(_shards(root))


class Record(NamedTuple):
    """Where a record's data is in its shard, in bytes, and its class: number (-1: none) and name ("": none)."""

    start: int
    size: int
    label: int
    text: str


Index = Mapping[str, Sequence[Record]]
"""Shard → its records; in the order of the dataset."""


def read(root: Path) -> list[Example]:
    """Returns an example a record, called `shard.tfrecord#17`, in the order of shards and records.

    The class is the text where there is one; else `labels.txt` beside the shards (a name a line, or
    `0:name`) names the number; else the number is the name. A split is taken from the shard's path
    (`train-00000-of-00010`, `validation/a.tfrecord`).

    Raises:
        DatasetError: When a shard is compressed or damaged or a record has no image or class. Names it.
    """
    return examples(root, index(root))


def index(root: Path, only: Collection[str] | None = None) -> dict[str, list[Record]]:
    """Walks over the shards, or those of these names; raises as `read`."""
    found: dict[str, list[Record]] = {}
    for name, shard in _named_shards(root):
        if only is None or name in only:
            view = _mapped(shard)
            found[name] = [
                Record(start, size, *_class(view[start : start + size], _uri(name, number)))
                for number, (start, size) in enumerate(_records(view, name))
            ]
    return found


def examples(root: Path, index: Index) -> list[Example]:
    """Returns what `read` does, by an index of all shards; of the files only `labels.txt` is looked at."""
    names = _names(_folder(root) / "labels.txt")
    for record in (record for records in index.values() for record in records if record.text):
        names.setdefault(record.label, record.text)
    found: list[Example] = []
    for shard, records in index.items():
        split = _split(shard)
        for number, record in enumerate(records):
            name = record.text or names.get(record.label, str(record.label))
            found.append(Example(_uri(shard, number), spelled(name), split, spelling(name)))
    return found


def reader(root: Path, local: Mapping[str, Path], follow_links: bool = False) -> TFRecordReader:
    """Returns the reader of the shards' images; the rest is not used, as a record is neither remote nor a link."""
    return TFRecordReader(
        _folder(root), {name: tuple(_records(_mapped(shard), name)) for name, shard in _named_shards(root)}
    )


def reader_of(root: Path, index: Index) -> TFRecordReader:
    """Returns the reader of the shards in an index, whether they are there or come later."""
    places = {name: tuple((record.start, record.size) for record in records) for name, records in index.items()}
    return TFRecordReader(_folder(root), places)


def among(names: Iterable[str]) -> list[str]:
    """Returns which of a folder's files are shards, by their names alone, in the order of the dataset."""
    paths = (PurePosixPath(name) for name in names if _NAME.search(name.rpartition("/")[2]))
    return [path.as_posix() for path in sorted(paths) if _is_visible(path)]


def uris(shard: str, records: Sequence[Record]) -> Iterator[str]:
    """Returns what the images of a shard are called."""
    return (_uri(shard, number) for number in range(len(records)))


@dataclass(frozen=True)
class TFRecordReader:
    """Reads one record at a time.

    Attributes:
        offsets: Shard → (start, size in bytes) of each record's data.
    """

    root: Path
    offsets: Mapping[str, tuple[tuple[int, int], ...]]

    def read(self, uri: str) -> bytes:
        shard, start, size = self._place(uri)
        with open(named(self.root, shard), "rb") as file:
            file.seek(start)
            record = file.read(size + _CRC.size)
        data, stored = record[:size], record[size:]
        if len(stored) != _CRC.size or _masked(data) != _CRC.unpack(stored)[0]:
            raise UnreadableRecordError("the record's checksum (crc32c) does not match")
        try:
            image = wire.features(memoryview(data)).get(_IMAGE)
        except wire.WireError as error:
            raise UnreadableRecordError(f"the record is not a tf.train.Example: {error}") from error
        return bytes(image[0]) if image else b""

    def stamp(self, uri: str) -> str:
        shard, start, size = self._place(uri)
        try:
            return f"{os.stat(named(self.root, shard)).st_mtime_ns}:{start}:{size}"
        except OSError:
            return ""

    def _place(self, uri: str) -> tuple[str, int, int]:
        shard, _, number = uri.rpartition("#")
        return shard, *self.offsets[shard][int(number)]


def _uri(shard: str, number: int) -> str:
    return f"{shard}#{number}"


def _folder(root: Path) -> Path:
    return root.parent if root.is_file() else root


def _shards(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if _NAME.search(root.name) else []
    paths = (path for path in root.rglob("*") if _NAME.search(path.name))
    return sorted(path for path in paths if _is_visible(path.relative_to(root)) and path.is_file())


def _named_shards(root: Path) -> Iterator[tuple[str, Path]]:
    folder = _folder(root)
    return ((as_text(shard.relative_to(folder).as_posix()), shard) for shard in _shards(root))


def _is_visible(path: PurePath) -> bool:
    return not any(map(is_litter, path.parts))


def _mapped(shard: Path) -> memoryview:
    if not shard.stat().st_size:
        raise DatasetError(f"The shard {shard.name!r} is empty.", next_step="Write or download the shard again.")
    with shard.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _records(view: memoryview, name: str) -> Iterator[tuple[int, int]]:
    if bytes(view[:2]) == b"\x1f\x8b":
        raise DatasetError(
            f"The shard {name!r} is compressed with gzip; its records cannot be read in any order.",
            next_step="Unpack it (gunzip), or write the shards without compression.",
        )
    at = number = 0
    while at < len(view):
        if at + _HEADER.size > len(view):
            raise _damaged(name, number, "the file ends inside its header")
        size, stored = _HEADER.unpack_from(view, at)
        if _masked(bytes(view[at : at + 8])) != stored:
            raise _damaged(name, number, "the checksum of its length does not match")
        start = at + _HEADER.size
        at = start + size + _CRC.size
        if at > len(view):
            raise _damaged(name, number, f"{size} bytes were announced, the file ends {at - len(view)} bytes early")
        yield start, size
        number += 1


def _damaged(name: str, number: int, fault: str) -> DatasetError:
    return DatasetError(
        f"The shard {name!r} is damaged at record {number}: {fault}. What follows cannot be found.",
        next_step="Write or download the shard again, or remove it.",
    )


def _masked(data: bytes) -> int:
    """Returns the crc32c as TFRecord stores it: rotated right by 15 bits plus a constant."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _class(record: memoryview, uri: str) -> tuple[int, str]:
    """Returns a record's class number (-1 where it has none) and its class name ("" where it has none)."""
    try:
        features = wire.features(record)
    except wire.WireError as error:
        raise DatasetError(
            f"{uri} is not a tf.train.Example: {error}.",
            next_step="Write the shard again from tf.train.Example records.",
        ) from error
    texts = (value for value in features.get(_TEXT, ()) if not isinstance(value, int))
    text = str(next(texts, b""), "utf-8", "replace").strip()
    labels = [value for value in features.get(_LABEL, ()) if isinstance(value, int)]
    if _IMAGE not in features or not (labels or text):
        raise DatasetError(
            f"{uri} needs {_IMAGE!r} and {_LABEL!r} (integer) or {_TEXT!r}; it has {sorted(features)}.",
            next_step="Write the shards with these feature names.",
        )
    return labels[0] if labels else -1, text


def _names(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    names: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines()):
        key, colon, name = line.partition(":")
        names.update({int(key): spelled(name)} if colon and key.strip().isdigit() else {number: spelled(line)})
    return {number: name for number, name in names.items() if name}


def _split(name: str) -> Split | None:
    named = {split for word in re.split(r"[^A-Za-z]+", name) if (split := split_of(word))}
    return named.pop() if len(named) == 1 else None
