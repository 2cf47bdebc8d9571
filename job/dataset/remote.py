"""A dataset in a bucket of which this machine has its share; another image comes when it is asked for.

The layouts learn the images from the names on the disk. So where an object is not pulled, a link that leads nowhere
stands for it: it has a name and no content, cannot be taken for an empty file, and a pull puts the file in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.dataset.layouts import Reader
from job.storage import ObjectInfo, Store

_NOWHERE: Final = ".not-pulled"


@dataclass(frozen=True)
class Remote:
    """The objects of a dataset's folder.

    Attributes:
        store: The folder in the bucket.
        infos: Name → object, of its listing.
        folder: Where they are, or come to, on this machine; nothing else is in it but hidden files.
    """

    store: Store
    infos: Mapping[str, ObjectInfo]
    folder: Path

    def leave_out(self, names: Iterable[str]) -> None:
        """Makes a link that leads nowhere for each that is not here, and removes what is of no object any more.

        No pull has noted the files that a reader fetched. Two machines of a trial may share the disk.
        """
        for parent, _, files in os.walk(self.folder):
            for path in (Path(parent, file) for file in files if not file.startswith(".")):
                if path.relative_to(self.folder).as_posix() not in self.infos:
                    path.unlink(missing_ok=True)
        for name in names:
            path = self.folder / name
            if not os.path.lexists(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    path.symlink_to(_NOWHERE)

    def around(self, reader: Reader) -> Reader:
        """Returns a reader that fetches what `reader` does not find."""
        return _FetchingReader(reader, self)


class _FetchingReader:
    """Fetches a file when it is first read; its stamp is the object's version, wherever the file is."""

    def __init__(self, reader: Reader, remote: Remote) -> None:
        self._reader, self._remote = reader, remote

    def __reduce__(self) -> tuple[Callable[[Reader], Reader], tuple[Reader]]:
        # Worker processes examine this machine's share, which is all here; a listing may have a million names.
        return _as_it_is, (self._reader,)

    def read(self, uri: str) -> bytes:
        try:
            return self._reader.read(uri)
        except FileNotFoundError:
            info = self._remote.infos.get(uri)
            if info is None:
                raise
            self._remote.store.download(info, self._remote.folder / uri)
        return self._reader.read(uri)

    def stamp(self, uri: str) -> str:
        info = self._remote.infos.get(uri)
        return self._reader.stamp(uri) if info is None else info.version


def _as_it_is(reader: Reader) -> Reader:
    return reader
