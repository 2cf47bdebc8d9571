"""What every storage scheme offers: a handful of methods on objects below one prefix.

Remote names stay `str`: `pathlib` would fold `gs://` into `gs:/`. Names are relative to the store's
prefix and use `/`. A remote thing exists when its marker exists, and the marker is written last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar, runtime_checkable

from job.errors import TemporaryError

ABSENT: Final = "absent"
"""As `if_version`: write only where nothing is."""

SMALL_BYTES: Final = 1 << 20
"""Objects up to this size are asked for several at once, and are in memory before they are on the disk."""

T = TypeVar("T")
Steps = Generator[float, None, T]
"""Work that may be left for other work: where it yields 0 an answer is on its way, where it yields more it is to be
taken up again no sooner than in so many seconds. Returns what it made."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as its listing describes it.

    Attributes:
        name: Relative to the store's prefix, with `/`.
        size_bytes: Of the whole object.
        version: Changes with every write (GCS generation, S3/Azure ETag, mtime_ns and size of a
            file). Opaque: compare for equality only.
        checksum: Of the whole content, as the scheme gives it: lower-case hex; "" where it gives none.
        algorithm: How `checksum` was made.
    """

    name: str
    size_bytes: int
    version: str
    checksum: str = ""
    algorithm: Literal["crc32c", "md5", ""] = ""


class VersionConflictError(TemporaryError):
    """Somebody else wrote the object first; nothing was changed."""


def conflict(uri: str, expected: str) -> VersionConflictError:
    """Returns the error for an object that is not at the version it should be replaced at."""
    return VersionConflictError(
        f"{uri} was written by somebody else: expected version {expected}; nothing was changed",
        next_step="Make sure only one job writes there, then start the job again.",
    )


class Store(Protocol):
    """Objects below one prefix. Safe to call from several threads.

    All methods raise the job's own errors: InputMissingError (404), AccessError (401, 403), TemporaryError
    (what may pass and did not within the retries), each naming the full URI.
    """

    @property
    def uri(self) -> str:
        """The prefix, as the user wrote it, without a trailing slash."""
        ...

    @property
    def num_retries(self) -> int:
        """Tries beyond the first, of all operations of this store so far."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields every object whose name starts with `prefix`, sorted by name; none is not an error.

        Raises:
            InputMissingError: When the bucket does not exist (for files: when nothing is at `uri`).
        """
        ...

    def stat(self, name: str) -> ObjectInfo | None:
        """Returns the object's description, or None where there is none. `name` "" is `uri` itself."""
        ...

    def read(self, name: str) -> bytes:
        """Returns a small object whole (markers, configs)."""
        ...

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        """Writes a small object whole, atomically.

        Args:
            if_version: None writes over whatever is there at its start (on a bucket: and over nothing that
                somebody wrote since); `ABSENT` only where nothing is; otherwise only over exactly that version.

        Raises:
            VersionConflictError: When `if_version` does not hold.
        """
        ...

    def download(self, info: ObjectInfo, to: Path) -> None:
        """Copies one object to a local file: the listed version, checked whole, temp + rename."""
        ...

    def upload(self, source: Path, name: str) -> ObjectInfo:
        """Copies one local file to an object, checksum verified by the server.

        On a bucket it replaces what `write` without a version would, whatever the size, so a writer that hung for a
        while does not undo what another one wrote in the meantime.

        Raises:
            VersionConflictError: When somebody else wrote the object meanwhile.
        """
        ...

    def delete(self, name: str) -> None:
        """Removes an object; one that is already gone is fine."""
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A store that can be asked for an object before there is time for the answer."""

    def downloading(self, info: ObjectInfo, to: Path) -> Steps[int]:
        """As `download`, by steps; returns the file's modification time in ns.

        An object above SMALL_BYTES is to be taken up without delay: its server would wait in the middle of it.
        """
        ...
