"""crc32c and md5 as Cloud Storage writes them: base64 of the digest, crc32c big-endian."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable

from job.demo.object_store.errors import ApiError

Buffer = bytes | bytearray | memoryview
PIECE_BYTES = 1 << 20


def _table() -> tuple[int, ...]:
    """Returns the 256 remainders of the reflected Castagnoli polynomial. Source: RFC 3720, appendix B.4."""
    remainders = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        remainders.append(crc)
    return tuple(remainders)


TABLE = _table()


def crc32c_in_python(data: Buffer) -> int:
    """Returns the crc32c of `data`, 0..2³²-1, about 10 MB/s: for machines without google-crc32c."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _fastest() -> Callable[[Buffer], int]:
    try:
        import google_crc32c
    except ImportError:
        return crc32c_in_python
    if google_crc32c.implementation != "c":
        return crc32c_in_python

    def in_c(data: Buffer) -> int:
        crc = 0
        view = memoryview(data)
        # The C extension takes `bytes` only: copied in pieces, so that a large upload is not held twice.
        for start in range(0, len(view), PIECE_BYTES):
            crc = int(google_crc32c.extend(crc, bytes(view[start : start + PIECE_BYTES])))
        return crc

    return in_c


_crc32c_number = _fastest()


def crc32c(data: Buffer) -> str:
    """Returns the crc32c in base64, as in the field `crc32c` of an object."""
    return base64.b64encode(struct.pack(">I", _crc32c_number(data))).decode()


def md5(data: Buffer) -> str:
    """Returns the MD5 in base64, as in the field `md5Hash` of an object."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def parse_hash_header(value: str) -> dict[str, str]:
    """Reads `x-goog-hash: crc32c=…,md5=…` into {"crc32c": …, "md5Hash": …}."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = (part.strip().partition("=") for part in value.split(",") if part.strip())
    return {names[key]: digest for key, _, digest in pairs if key in names}


def verify(data: Buffer, expected: dict[str, str]) -> tuple[str, str]:
    """Compares `data` with what the sender says it is.

    Args:
        data: The whole object or part, as received.
        expected: `crc32c` and/or `md5Hash` in base64; nothing to compare when empty.

    Returns:
        (crc32c, md5), both in base64.

    Raises:
        ApiError: 400, as Cloud Storage answers, when one differs; nothing may be stored then.
    """
    actual = {"crc32c": crc32c(data), "md5Hash": md5(data)}
    for key, label in (("crc32c", "CRC32C"), ("md5Hash", "MD5 hash")):
        if key in expected and expected[key] != actual[key]:
            provided, calculated = f'{label} "{expected[key]}"', f'{label} "{actual[key]}"'
            raise ApiError(400, "badDigest", f"Provided {provided} doesn't match calculated {calculated}.")
    return actual["crc32c"], actual["md5Hash"]
