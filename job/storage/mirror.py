"""A folder kept in step with a store while the job runs: TensorBoard logs, pushed in the background.

Written locally and copied, because a bucket client rewrites a whole log file at each flush (measured: 20
flushes, 44 requests) and a bucket takes one write a second an object. A mirror never stops the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from job.errors import JobError
from job.storage.ledger import is_ours
from job.storage.local import LocalStore
from job.storage.store import Store

_LOG = logging.getLogger(__name__)


class Mirror:
    """Copies a folder's changed files every so often, and once more at the end of the `with` block.

    A file that fails is tried again in the next round. Nothing is ever deleted in the store.

    Args:
        from_dir: Need not exist yet.
        store: Where to.
        prefix: Folder below the store's prefix; "" is the prefix itself.
        every_s: Seconds between the end of a round and the next; at least 10 for a bucket, which refuses
            more than one write a second to an object.
        on_error: Told of the first failure, and of the first after a success; else it is logged as a warning.
    """

    def __init__(
        self,
        from_dir: Path,
        store: Store,
        prefix: str = "",
        every_s: float = 30.0,
        *,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.last_error: Exception | None = None
        self._from_dir = from_dir
        self._store = store
        self._base = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._every_s = every_s
        self._on_error = on_error
        self._copied: dict[str, str] = {}
        self._round = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.now()

    def now(self) -> int:
        """Copies what changed and returns the number of files copied; failures are remembered, not raised.

        The first failure ends the round: each has used up its tries, and the end of a run should not wait
        for all files to do so.
        """
        num_copied = 0
        with self._round:
            try:
                if self._from_dir.is_dir():
                    for info in LocalStore(str(self._from_dir), self._from_dir).list():
                        if not is_ours(info.name) and self._copied.get(info.name) != info.version:
                            self._store.upload(self._from_dir / info.name, self._base + info.name)
                            self._copied[info.name] = info.version
                            num_copied += 1
            except Exception as error:  # whatever it is, a log file is no reason to lose a run
                self._remember(error)
            else:
                self.last_error = None
        return num_copied

    def _remember(self, error: Exception) -> None:
        is_first, self.last_error = self.last_error is None, error
        if not is_first:
            return
        if self._on_error is not None:
            self._on_error(error)
        else:
            said = error.message if isinstance(error, JobError) else repr(error)
            _LOG.warning("logs are not being copied to %s/%s for now: %s", self._store.uri, self._base, said)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.now()
