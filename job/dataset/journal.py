"""What the survey has found so far, kept so that a restart goes on where a killed job was.

A file that only grows: one line of JSON an image, in ASCII, written after its pixels are in the pack. A line names
the image by uri and stamp (size and time), so that a changed file is looked at again, and the pack it is in. A last
line that was torn off is not read; every other line that does not parse is ignored alike. That the pixels are whole is
not believed but checked (`Finding.pixels_crc32`): after a power failure the line may be on the disk and they not.

One process at a time has the journal. Another one that surveys the same data into the same work folder meanwhile
keeps a journal of its own, which nobody goes on with.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from job.dataset.examine import Finding

Entry = tuple[str, str, Finding]
"""(uri, stamp, what was found)."""


class Journal:
    """The findings of a survey under way; a context, in which the file is locked.

    Args:
        path: Named after everything that decides what is found, but for the files themselves.

    Attributes:
        is_private: Whether another process has the journal at `path`, and this is one beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owned: list[Path] = []
        self._file = self._locked(path)
        self.is_private = self._file is None
        if self._file is None:
            self._path = self.own(path)
            self._file = self._path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._file is not None
        for path in self._owned:
            path.unlink(missing_ok=True)
        self._file.close()

    def own(self, path: Path) -> Path:
        """Returns the path itself; for a private journal one that no other process uses and that goes with it."""
        if not self.is_private:
            return path
        self._owned.append(path.with_name(f"{path.name}.{os.getpid()}"))
        return self._owned[-1]

    def entries(self, pack: str | None) -> dict[tuple[str, str], Finding]:
        """Returns (uri, stamp) → finding, the last one of each; and takes a torn last line off the file.

        Args:
            pack: Only images whose pixels went there; None asks for no pixels.
        """
        assert self._file is not None
        found: dict[tuple[str, str], Finding] = {}
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            entry = _parsed(line)
            if entry is not None and pack in (None, entry[0]):
                found[entry[1], entry[2]] = entry[3]
        self._file.truncate(whole)
        return found

    def append(self, pack: str | None, entries: Iterable[Entry]) -> None:
        """Notes images of which everything is done, pixels included."""
        assert self._file is not None
        lines = [json.dumps([pack or "", uri, stamp, *finding]) + "\n" for uri, stamp, finding in entries]
        self._file.seek(0, os.SEEK_END)
        self._file.write("".join(lines).encode("ascii"))
        self._file.flush()

    def finish(self) -> None:
        """Removes the journal: what it was kept for is whole."""
        self._path.unlink(missing_ok=True)

    @staticmethod
    def _locked(path: Path) -> IO[bytes] | None:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # Held by another process, or a file system without locks.
            file.close()
            return None
        return file


def _parsed(line: bytes) -> tuple[str, str, str, Finding] | None:
    try:
        values = json.loads(line)
        pack, uri, stamp, *finding = values
        return pack, uri, stamp, Finding.of(*finding)
    except (ValueError, TypeError):
        return None
