"""`status.json`: what a running job is doing, for whoever looks into its output while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from job.console import Bar, Console, Pace
from job.errors import JobError

EVERY_S = 15.0
"""Seconds between two writes: an object takes about one write a second, and nobody reads faster."""


class Status:
    """Shows progress on the console and writes it down.

    Args:
        write: Stores {"state", "stage", "done", "total", "unit", "eta_s", "time"} at the output.
    """

    def __init__(
        self, console: Console, write: Callable[[dict[str, Any]], None], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._console = console
        self._write = write
        self._clock = clock
        self._written = float("-inf")
        self._facts: dict[str, Any] = {}
        self._one_write = threading.Lock()
        self._writing: threading.Thread | None = None

    def bar(self, stage: str, *, unit: str) -> Bar:
        """Returns a context like the console's, which also keeps `status.json` current."""
        return _StatusBar(self._console.bar(stage, unit=unit), self, stage, unit, self._clock)

    def end(self, facts: dict[str, Any]) -> None:
        """Writes the run's last status: {"state", …, "time"} and how far its last stage was.

        Raises:
            JobError: When the output cannot be written to.
        """
        with self._one_write:  # a late "running" would hide how the run ended
            self._write({**self._facts, **facts, "time": self._clock()})

    def note(self, fields: dict[str, Any]) -> None:
        """Writes the status in the background, unless it was just written or is still being written.

        A bucket that is away takes minutes to say so: neither that nor its error may hold up the training.
        """
        now = self._clock()
        self._facts = fields
        if now - self._written < EVERY_S or (self._writing is not None and self._writing.is_alive()):
            return
        self._written = now
        facts = {"state": "running", **fields, "time": now}
        self._writing = threading.Thread(target=self._write_down, args=(facts,), name="status", daemon=True)
        self._writing.start()

    def settle(self) -> None:
        """Returns when no write is under way."""
        if self._writing is not None:
            self._writing.join()

    def _write_down(self, facts: dict[str, Any]) -> None:
        try:
            with self._one_write:
                self._write(facts)
        except JobError as error:
            self._console.warn(f"status.json was not written: {error.message}")


class _StatusBar:
    def __init__(self, bar: Bar, status: Status, stage: str, unit: str, clock: Callable[[], float]) -> None:
        self._bar, self._status, self._stage, self._unit = bar, status, stage, unit
        self._pace = Pace(clock)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def update(self, done: int, total: int, **fields: Any) -> None:
        self._bar.update(done, total, **fields)
        self._pace.report(done)
        facts = {"stage": self._stage, "done": done, "total": total, "unit": self._unit}
        self._status.note({**facts, "eta_s": self._pace.eta_s(total), **fields})
