"""A folder on this machine as a `Store`: the same promises as a bucket, kept with temp + rename and a lock."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from job.errors import TemporaryError
from job.storage import disk, names
from job.storage.store import ABSENT, ObjectInfo, VersionConflictError

_LOG = logging.getLogger(__name__)


class LocalStore:
    """Files below one folder. The folder need not exist before the first write.

    Args:
        uri: As the user wrote it, for messages.
        root: The folder, or one single file (then only the name "" is there).
    """

    num_retries = 0

    def __init__(self, uri: str, root: Path) -> None:
        self._uri = uri.rstrip("/") or "/"
        self._root = root

    @property
    def uri(self) -> str:
        return self._uri

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields the files below the folder whose names start with `prefix`, sorted by name.

        Temporary files are left out, and so are links that lead out of the folder (with one warning each).
        """
        with disk.border(self._uri, self._root):
            self._root.stat()
            if not self._root.is_dir():
                return
            folder = prefix.rpartition("/")[0]
            start = self._path(folder) if folder else self._root
            if not start.is_dir():
                return
            home = os.path.realpath(self._root)
            paths = _walk(start, home, (os.path.realpath(start),))
            found = sorted(name for path in paths if (name := self._name(path)).startswith(prefix))
        for name in found:
            if info := self.stat(name):
                yield info

    def stat(self, name: str) -> ObjectInfo | None:
        path = self._path(name)
        with disk.border(self._full(name), self._root):
            try:
                return _info(name, path.stat()) if path.is_file() else None
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes:
        with disk.border(self._full(name), self._root):
            return self._path(name).read_bytes()

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        target = self._path(name)
        with disk.border(self._full(name), target), disk.beside(target) as temp:
            temp.write_bytes(data)
            return self._commit(temp, target, name, if_version)

    def download(self, info: ObjectInfo, to: Path) -> None:
        full = self._full(info.name)
        with disk.replacing(to) as temp, disk.filling(to, info.size_bytes), disk.border(full, to):
            with self._path(info.name).open("rb") as source, temp.open("wb") as copy:
                before = _info(info.name, os.fstat(source.fileno()))
                shutil.copyfileobj(source, copy, 1 << 20)
                after = _info(info.name, os.fstat(source.fileno()))
            if not before.version == after.version == info.version or temp.stat().st_size != info.size_bytes:
                raise TemporaryError(
                    f"{full} changed while it was being read",
                    next_step="Let whatever writes there finish, then start the job again.",
                )

    def upload(self, source: Path, name: str) -> ObjectInfo:
        target = self._path(name)
        with disk.border(self._full(name), target), disk.beside(target) as temp:
            with disk.border(str(source), source):
                opened = source.open("rb")
            with opened, temp.open("wb") as copy:
                shutil.copyfileobj(opened, copy, 1 << 20)
            return self._commit(temp, target, name, None)

    def delete(self, name: str) -> None:
        target = self._path(name)
        with disk.border(self._full(name), self._root), contextlib.suppress(NotADirectoryError):
            target.unlink(missing_ok=True)

    def _commit(self, temp: Path, target: Path, name: str, if_version: str | None) -> ObjectInfo:
        # Only a condition needs the lock, at the root: other folders hold what the user asked for and nothing else.
        with contextlib.nullcontext() if if_version is None else disk.locked(self._root if name else target.parent):
            there = self.stat(name)
            if if_version is not None and (there.version if there else ABSENT) != if_version:
                raise VersionConflictError(
                    f"{self._full(name)} was written by somebody else: expected {if_version}, "
                    f"found {there.version if there else ABSENT}; nothing was changed",
                    next_step="Make sure only one job writes there, then start the job again.",
                )
            disk.touch_after(temp, int(there.version.partition("-")[0]) if there else 0)
            info = _info(name, temp.stat())
            disk.take_name(temp, target)
            return info

    def _path(self, name: str) -> Path:
        if not name:
            return self._root
        names.check(name, self._uri)
        return self._root / name

    def _full(self, name: str) -> str:
        return f"{self._uri.rstrip('/')}/{name}" if name else self._uri

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _info(name: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name, found.st_size, f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}")


def _walk(folder: Path, home: str, above: tuple[str, ...]) -> Iterator[Path]:
    """Yields regular files; `above` are the real folders on the way here, to leave circles of links."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(names.RESERVED_PREFIX):
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if entry.is_symlink() and os.path.commonpath([home, real]) != home:
                _LOG.warning("left out %s: the link leads out of the folder, to %s", entry.path, real)
            elif entry.is_dir():
                real = os.path.realpath(real)
                if real not in above:
                    yield from _walk(folder / entry.name, home, (*above, real))
            elif entry.is_file():
                yield folder / entry.name
