"""A file cut into the parts that S3 and Azure take a large object in, and a few of them sent at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import BinaryIO

from job.errors import TemporaryError
from job.storage import checksum

PART_BYTES = 8 << 20
"""Up to it an object is sent in one request. S3 takes no part below 5 MiB but the last."""

_AT_ONCE = 4
_IN_MEMORY = threading.BoundedSemaphore(16)
"""Of all uploads in this process: a push sends 32 files at once, and each part is in memory while it is sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `first + size_bytes` of a file. Numbers begin with 1; `md5` is lower-case hex."""

    number: int
    first: int
    size_bytes: int
    md5: str


@dataclass(frozen=True, slots=True)
class Cut:
    """An open file and its parts, in order. `md5` is that of the whole, lower-case hex; an empty file has no part."""

    stream: BinaryIO
    size_bytes: int
    md5: str
    parts: tuple[Part, ...]

    def read(self, first: int, size_bytes: int, md5: str) -> bytes:
        """Returns a piece of the file as it was when it was cut. Thread-safe.

        Raises:
            TemporaryError: It is another one by now.
        """
        data = os.pread(self.stream.fileno(), size_bytes, first)
        if checksum.of_bytes(data, "md5") != md5:
            raise TemporaryError(
                f"{self.stream.name} was rewritten while it was being sent",
                next_step="Let whatever writes there finish, then start the job again.",
            )
        return data

    def send(self, parts: Iterable[Part], work: Callable[[Part, bytes], None]) -> None:
        """Calls `work` with each part and its bytes, up to four at once; the first failure is raised, and ends it."""

        def one(part: Part) -> None:
            with _IN_MEMORY:
                work(part, self.read(part.first, part.size_bytes, part.md5))

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="part") as pool:
            try:
                for done in as_completed([pool.submit(one, part) for part in parts]):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def cut(stream: BinaryIO, most_parts: int) -> Cut:
    """Returns the file's parts: of 8 MiB each but the last, or of more where that would be more than `most_parts`.

    A log file may grow meanwhile: what it holds at the beginning is what is cut.
    """
    size_bytes = os.fstat(stream.fileno()).st_size
    part_bytes = max(PART_BYTES, -(-size_bytes // most_parts))
    whole, parts = checksum.start("md5"), []
    for number, first in enumerate(range(0, size_bytes, part_bytes), 1):
        own = checksum.start("md5")
        left = part_size = min(part_bytes, size_bytes - first)
        while left and (chunk := stream.read(min(checksum.CHUNK_BYTES, left))):
            own.update(chunk)
            whole.update(chunk)
            left -= len(chunk)
        parts.append(Part(number, first, part_size, own.digest().hex()))
    return Cut(stream, size_bytes, whole.digest().hex(), tuple(parts))
