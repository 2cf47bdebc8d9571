"""A dataset in buckets of which this machine has its share; another image comes when it is asked for.

The layouts learn the images of a folder from the names on the disk. So where an object is not pulled, a link that leads
nowhere stands for it: it has a name and no content, cannot be taken for an empty file, and a pull puts the file in its
place. Images that a manifest names need no such link, and of shards the machines tell each other what is in them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.dataset.layouts import Reader, is_full_uri
from job.dataset.layouts.tfrecord import Index
from job.storage import ObjectInfo, Store, transfer

_NOWHERE: Final = ".not-pulled"


@dataclass(frozen=True, slots=True)
class Object:
    """The object of an image, or of the shard that it is in.

    Attributes:
        path: Where it is, or comes to, on this machine.
    """

    store: Store
    info: ObjectInfo
    path: Path


@dataclass(frozen=True)
class Remote:
    """What a machine gets the rest of its dataset from.

    Attributes:
        objects: URI of an image → its object. What lies on the disk alone has none.
        pulled: URIs of those that a pull has made sure of.
        index: What is in the shards, where they are not all on this machine.
    """

    objects: Mapping[str, Object]
    pulled: Collection[str]
    index: Index | None = None

    @property
    def local_images(self) -> dict[str, Path]:
        """Where each image that a manifest names by its full URI is or comes to."""
        return {uri: each.path for uri, each in self.objects.items() if is_full_uri(uri)}

    def around(self, reader: Reader) -> Reader:
        """Returns a reader that first fetches what is not here, or is here from an earlier start and has changed."""
        return _FetchingReader(reader, self)


def leave_out(folder: Path, names: Iterable[str], objects: Collection[str]) -> None:
    """Makes a link that leads nowhere for each name that is not here, and removes what is of no object any more.

    No pull has noted the files that a reader fetched. Two machines of a trial may share the disk.

    Args:
        folder: Nothing is in it but files of objects and hidden ones.
        objects: The names of all.
    """
    for parent, _, files in os.walk(folder):
        for path in (Path(parent, file) for file in files if not file.startswith(".")):
            if path.relative_to(folder).as_posix() not in objects:
                path.unlink(missing_ok=True)
                transfer.remove_empty(path.parent, folder)
    for name in names:
        path = folder / name
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.symlink_to(_NOWHERE)


class _FetchingReader:
    """Fetches a file when it is first read; its stamp is the object's version, wherever the file is."""

    def __init__(self, reader: Reader, remote: Remote) -> None:
        self._reader, self._objects = reader, remote.objects
        self._right = {remote.objects[uri].path for uri in remote.pulled}
        self._fetching: dict[Path, threading.Lock] = {}

    def __reduce__(self) -> tuple[Callable[[Reader], Reader], tuple[Reader]]:
        # Worker processes examine this machine's share, which is all here; a listing may have a million names.
        return _as_it_is, (self._reader,)

    def read(self, uri: str) -> bytes:
        there = self._objects.get(uri)
        if there is not None and there.path not in self._right:
            self._fetch(there)
        return self._reader.read(uri)

    def stamp(self, uri: str) -> str:
        there = self._objects.get(uri)
        return self._reader.stamp(uri) if there is None else there.info.version

    def _fetch(self, there: Object) -> None:
        """Makes sure of a file, once: many threads read from one shard."""
        with self._fetching.setdefault(there.path, threading.Lock()):
            if there.path not in self._right:
                if not transfer.is_equal(there.info, there.path):
                    there.store.download(there.info, there.path)
                self._right.add(there.path)
                self._fetching.pop(there.path, None)


def _as_it_is(reader: Reader) -> Reader:
    return reader
