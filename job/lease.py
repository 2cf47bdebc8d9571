"""One writer a run: the second job on the same output is refused, a dead one's place is taken over.

The lease is an object written with a precondition, renewed in the background, with an expiry. Clocks of two
machines may differ by less than the lease's length.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from job import rundir
from job.errors import InputMissingError, JobError, LeaseHeldError
from job.storage import ABSENT, Store, VersionConflictError

LENGTH_S = 60.0

_PROCESS = secrets.token_hex(4)
"""Tells this process from an earlier one with its number: in a container both are number 1."""


class Lease:
    """Holds `lease.json` of a run for the time of its block.

    Args:
        store: The output.
        on_lost: Called once, from the renewing thread, when another job took the lease over.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_lost: Callable[[], None],
        length_s: float = LENGTH_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._on_lost = on_lost
        self._length_s = length_s
        self._clock = clock
        self._holder = {
            "holder": f"{socket.gethostname()}:{os.getpid()}",
            "machine": machine(),
            "pid": os.getpid(),
            "process": _PROCESS,
        }
        self._version = ABSENT
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.is_lost = False

    def __enter__(self) -> Self:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        # A lease that cannot be given back ends by itself; the run's own outcome is what counts.
        with contextlib.suppress(JobError):
            found = self._store.stat(rundir.LEASE)
            if found is not None and found.version == self._version:
                self._store.delete(rundir.LEASE)

    def renew(self) -> None:
        """Writes a new expiry; notices when another job took over."""
        try:
            self._write(self._version)
        except VersionConflictError:
            self.is_lost = True
            self._on_lost()

    def _take(self) -> None:
        found = self._store.stat(rundir.LEASE)
        if found is not None:
            held = self._read()
            if held.get("until", 0.0) > self._clock() and not is_dead(held):
                until = time.strftime("%H:%M:%S UTC", time.gmtime(held["until"]))
                raise LeaseHeldError(
                    f"The job {held.get('holder')} is writing to {self._store.uri} (its lease runs until {until}); one "
                    "output takes one job at a time.",
                    next_step="Wait for it, stop it, or choose another --output. A dead job's lease ends by itself.",
                )
        try:
            self._write(found.version if found else ABSENT)
        except VersionConflictError as error:
            raise LeaseHeldError(
                f"Another job took {self._store.uri} at the same moment; one output takes one job at a time.",
                next_step="Wait for it, or choose another --output.",
            ) from error

    def _read(self) -> dict[str, Any]:
        """Returns what the lease says; nothing where it says nothing sensible or was just given back."""
        try:
            held = json.loads(self._store.read(rundir.LEASE))
        except (ValueError, InputMissingError):
            return {}
        return held if isinstance(held, dict) else {}

    def _write(self, version: str) -> None:
        text = json.dumps({**self._holder, "until": self._clock() + self._length_s})
        self._version = self._store.write(rundir.LEASE, text.encode(), if_version=version).version

    def _keep(self) -> None:
        while not self._ended.wait(self._length_s / 3):
            try:
                self.renew()
            except JobError:
                # A bucket that is away for a moment: the next renewal may pass, and nobody else can write either.
                continue
            if self.is_lost:
                return


def machine() -> str:
    """Returns a name for where process numbers mean the same: one start of one machine, one container.

    The host's name alone would not do: containers that share the host's network share its name but not its processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_dead(held: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if held.get("machine") != machine():
        return False
    pid = held["pid"]
    if pid == os.getpid():
        return bool(held["process"] != _PROCESS)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
