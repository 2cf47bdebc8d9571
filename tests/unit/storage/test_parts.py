"""How a file is cut, and what becomes of one that changes while its parts are sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from job.errors import TemporaryError
from job.storage import parts

MIB = 1 << 20


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("size_bytes", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
def test_parts_are_the_file_and_each_knows_its_md5(tmp_path: Path, size_bytes: int):
    data = bytes(range(251)) * (size_bytes // 251 + 1)
    data = data[:size_bytes]
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as stream:
        whole = parts.cut(stream, most_parts=100)
    assert (whole.size_bytes, whole.md5) == (size_bytes, md5(data))
    assert [part.number for part in whole.parts] == list(range(1, -(-size_bytes // (8 * MIB)) + 1))
    pieces = [data[part.first : part.first + part.size_bytes] for part in whole.parts]
    assert b"".join(pieces) == data
    assert [part.md5 for part in whole.parts] == [md5(piece) for piece in pieces]


def test_parts_are_larger_where_there_would_be_too_many(tmp_path: Path):
    with (tmp_path / "file").open("w+b") as stream:
        stream.truncate(30 * MIB)
        whole = parts.cut(stream, most_parts=3)
    assert [part.size_bytes for part in whole.parts] == [10 * MIB] * 3


def test_what_grows_is_sent_as_it_was_and_what_is_rewritten_is_not(tmp_path: Path):
    with (tmp_path / "log").open("w+b") as stream:
        stream.write(b"a" * 9 * MIB)
        stream.flush()
        stream.seek(0)
        whole = parts.cut(stream, most_parts=100)
        stream.seek(0, 2)
        stream.write(b"b" * 9 * MIB)
        stream.flush()
        sent: dict[int, bytes] = {}
        whole.send(whole.parts, lambda part, data: sent.update({part.number: data}))
        assert sent[1] + sent[2] == b"a" * 9 * MIB
        stream.seek(0)
        stream.write(b"c")
        stream.flush()
        with pytest.raises(TemporaryError, match=r"log was rewritten while it was being sent"):
            whole.send(whole.parts, lambda part, data: None)
