"""TFRecord shards, written here by hand byte by byte; the integration test has TensorFlow write them."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import google_crc32c
import pytest

from job.dataset.example import Example, Split
from job.dataset.layouts import UnreadableRecordError, tfrecord, wire
from job.errors import DatasetError


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def example(**features: bytes | int) -> bytes:
    entries = b""
    for name, value in features.items():
        kind = field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, varint(value)))
        entries += field(1, field(1, name.replace("__", "/").encode()) + field(2, kind))
    return field(1, entries)


def record(data: bytes) -> bytes:
    def crc(what: bytes) -> bytes:
        value = google_crc32c.value(what)
        return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + crc(length) + data + crc(data)


def shard(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(record, records)))
    return path


CAT = example(image__encoded=b"cat bytes", image__class__text=b"cat", image__class__label=0)
DOG = example(image__encoded=b"dog bytes", image__class__label=1)


def test_records_are_examples_and_their_images_are_read_in_any_order(tmp_path: Path) -> None:
    shard(tmp_path / "train-00000-of-00002", CAT, DOG)
    shard(tmp_path / "train-00001-of-00002", CAT)
    shard(tmp_path / "validation" / "a.tfrecord", DOG)
    assert tfrecord.recognise(tmp_path)
    assert tfrecord.read(tmp_path) == [
        Example("train-00000-of-00002#0", "cat", Split.TRAIN),
        Example("train-00000-of-00002#1", "1", Split.TRAIN),
        Example("train-00001-of-00002#0", "cat", Split.TRAIN),
        Example("validation/a.tfrecord#0", "1", Split.VALIDATION),
    ]
    reader = pickle.loads(pickle.dumps(tfrecord.reader(tmp_path, {})))
    assert reader.read("validation/a.tfrecord#0") == b"dog bytes"
    assert reader.read("train-00000-of-00002#0") == b"cat bytes"
    assert reader.stamp("train-00000-of-00002#0") != reader.stamp("train-00000-of-00002#1")


def test_a_shard_whose_name_is_not_utf_8_is_read_under_a_name_that_is_text(tmp_path: Path) -> None:
    shard(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tfrecord")), CAT)
    (found,) = tfrecord.read(tmp_path)
    assert found.uri == r"caf\xe9.tfrecord#0"
    reader = tfrecord.reader(tmp_path, {})
    assert reader.read(found.uri) == b"cat bytes"
    assert reader.stamp(found.uri)


def test_names_alone_tell_which_files_are_shards_in_the_order_of_reading(tmp_path: Path) -> None:
    names = ["b/a-00001-of-00002", "b-1.tfrecord", "b/a-00000-of-00002", "a.tfrecord", ".b/c.tfrecord", "d.jpg"]
    for name in names:
        shard(tmp_path / name, CAT)
    assert tfrecord.among(names) == [found.uri.removesuffix("#0") for found in tfrecord.read(tmp_path)]
    assert len(tfrecord.among(names)) == 4


def test_an_index_stands_for_shards_that_come_later(tmp_path: Path) -> None:
    there, later = (shard(tmp_path / "data" / name, CAT, DOG) for name in ("a.tfrecord", "b.tfrecord"))
    (tmp_path / "data" / "labels.txt").write_text("1:dog\n", encoding="utf-8")
    everything, index = tfrecord.read(tmp_path / "data"), tfrecord.index(tmp_path / "data")
    content = later.read_bytes()
    later.unlink()
    assert list(tfrecord.index(there.parent, ["a.tfrecord", "b.tfrecord"])) == ["a.tfrecord"]
    assert tfrecord.examples(there.parent, index) == everything
    reader = tfrecord.reader_of(there.parent, index)
    with pytest.raises(FileNotFoundError):
        reader.read("b.tfrecord#1")
    later.write_bytes(content)
    assert reader.read("b.tfrecord#1") == b"dog bytes"


def test_a_number_is_named_by_another_record_or_by_labels_txt(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tfrecord", CAT, example(image__encoded=b"x", image__class__label=0), DOG)
    assert [found.label for found in tfrecord.read(path)] == ["cat", "cat", "1"]
    (tmp_path / "labels.txt").write_text("0:cat\n1:dog\n", encoding="utf-8")
    assert [found.label for found in tfrecord.read(path)] == ["cat", "cat", "dog"]


def test_a_damaged_image_is_one_unreadable_record(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tfrecord", CAT, DOG)
    path.write_bytes(path.read_bytes().replace(b"cat bytes", b"cat bytez"))
    reader = tfrecord.reader(path, {})
    with pytest.raises(UnreadableRecordError, match="crc32c"):
        reader.read("a.tfrecord#0")
    assert reader.read("a.tfrecord#1") == b"dog bytes"


@pytest.mark.parametrize("keep", [1, 11, 20, 60])
def test_a_shard_that_ends_early_names_the_record(tmp_path: Path, keep: int) -> None:
    path = shard(tmp_path / "a.tfrecord", CAT)
    path.write_bytes(path.read_bytes() + record(DOG)[:keep])
    with pytest.raises(DatasetError, match=r"'a\.tfrecord' is damaged at record 1"):
        tfrecord.read(path)


def test_a_damaged_length_is_noticed(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tfrecord", CAT)
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    with pytest.raises(DatasetError, match="checksum of its length"):
        tfrecord.read(path)


def test_compressed_and_empty_shards_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tfrecord", CAT)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DatasetError, match="compressed with gzip"):
        tfrecord.read(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="is empty"):
        tfrecord.read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (example(image__encoded=b"x"), r"#0 needs 'image/encoded' .* it has \['image/encoded'\]"),
        (example(image__class__text=b"cat"), "needs 'image/encoded'"),
        (b"\xff\xff", "is not a tf.train.Example"),
    ],
)
def test_a_record_that_lacks_something_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        tfrecord.read(shard(tmp_path / "a.tfrecord", data))


def test_integers_are_signed_packed_or_not() -> None:
    packed = field(1, field(1, field(1, b"n") + field(2, field(3, field(1, varint(3) + varint(-2))))))
    single = field(1, field(1, field(1, b"n") + field(2, field(3, varint(1 << 3) + varint(-7)))))
    assert wire.features(memoryview(packed)) == {"n": [3, -2]}
    assert wire.features(memoryview(single)) == {"n": [-7]}


def test_fields_of_other_types_are_stepped_over() -> None:
    strange = varint(9 << 3 | 1) + bytes(8) + varint(9 << 3 | 5) + bytes(4) + varint(9 << 3) + varint(300)
    floats = field(1, field(1, field(1, b"f") + field(2, field(2, field(1, bytes(4))))))
    assert wire.features(memoryview(strange + floats)) == {"f": []}


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0b", b"\x80", b"\xff" * 11])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.features(memoryview(data))
