"""A store that only the holder of the run's lease writes to.

A job that lost its connection for longer than its lease lasts may have been replaced by another one; when the
connection is back, whatever it still wants to write (logs, a checkpoint, the report) must not reach the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from job.storage import ObjectInfo, Store


class Fenced:
    """A `Store` that asks before it changes anything.

    Args:
        store: The output.
        confirm: Raises where this job is not the only writer any more.
    """

    def __init__(self, store: Store, confirm: Callable[[], None]) -> None:
        self._store = store
        self._confirm = confirm

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def num_retries(self) -> int:
        return self._store.num_retries

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._store.list(prefix)

    def stat(self, name: str) -> ObjectInfo | None:
        return self._store.stat(name)

    def read(self, name: str) -> bytes:
        return self._store.read(name)

    def download(self, info: ObjectInfo, to: Path) -> None:
        self._store.download(info, to)

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        self._confirm()
        return self._store.write(name, data, if_version=if_version)

    def upload(self, source: Path, name: str) -> ObjectInfo:
        self._confirm()
        return self._store.upload(source, name)

    def delete(self, name: str) -> None:
        self._confirm()
        self._store.delete(name)
