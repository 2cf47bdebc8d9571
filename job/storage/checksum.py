"""Checksums of whole files and streams, in the algorithms that storage services list."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import google_crc32c

CHUNK_BYTES = 1 << 20
"""1 MiB reads: measured at 1.4 to 2.4 GB/s with a running crc32c, against 0.4 GB/s with 8 KiB pieces."""


class Digest(Protocol):
    """The part of hashlib's interface that is used here; google_crc32c.Checksum has it too."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


def start(algorithm: Literal["crc32c", "md5"]) -> Digest:
    """Returns a running checksum of nothing yet."""
    digest: Digest = google_crc32c.Checksum() if algorithm == "crc32c" else hashlib.md5(usedforsecurity=False)
    return digest


def of_bytes(data: bytes, algorithm: Literal["crc32c", "md5"]) -> str:
    """Returns the checksum of `data`, lower-case hex."""
    digest = start(algorithm)
    digest.update(data)
    return digest.digest().hex()


def of_stream(stream: BinaryIO, size_bytes: int, algorithm: Literal["crc32c", "md5"]) -> str:
    """Returns the checksum of the next `size_bytes` bytes, lower-case hex; of fewer where the stream ends."""
    digest = start(algorithm)
    while size_bytes > 0 and (chunk := stream.read(min(CHUNK_BYTES, size_bytes))):
        digest.update(chunk)
        size_bytes -= len(chunk)
    return digest.digest().hex()


def of_file(path: Path, algorithm: Literal["crc32c", "md5"]) -> str:
    """Returns the checksum of a whole file, lower-case hex."""
    with path.open("rb") as stream:
        return of_stream(stream, path.stat().st_size, algorithm)


def from_base64(text: str) -> str:
    """Returns the lower-case hex of a checksum that a service gives in base64; "" stays ""."""
    return base64.b64decode(text).hex()


def to_base64(text: str) -> str:
    """Returns the base64 that a service takes for a checksum in hex."""
    return base64.b64encode(bytes.fromhex(text)).decode()
