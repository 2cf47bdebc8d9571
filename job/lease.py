"""One writer a run: the second job on the same output is refused, a dead one's place is taken over.

The lease is an object written with a precondition, renewed in the background, with an expiry. A live holder renews
it while one looks; one that stays as it is until it expires is a dead one's. Clocks of two machines may differ by a
quarter of the lease's length.
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
        on_lost: Given the error with which the job should end, once, from the thread that notices that another job
            took the lease over.
        on_wait: Told who holds it, when it takes a while to see whether that job is alive.
        wait: Waits so many seconds; may raise to give up.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_lost: Callable[[LeaseHeldError], None],
        on_wait: Callable[[str], None] = lambda holder: None,
        length_s: float = LENGTH_S,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._on_lost = on_lost
        self._on_wait = on_wait
        self._length_s = length_s
        self._clock = clock
        self._wait = wait
        self._holder = {
            "holder": f"{socket.gethostname()}:{os.getpid()}",
            "machine": machine(),
            "pid": os.getpid(),
            "process": _PROCESS,
            # Tells this lease from another one of the same process.
            "lease": secrets.token_hex(4),
        }
        self._version = ABSENT
        self._until = 0.0
        self._renewing = threading.Lock()
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
        with self._renewing:
            if self.is_lost:
                return
            try:
                self._write(self._version)
                return
            except VersionConflictError:
                # An answer that was lost makes the second try of our own write a conflict.
                if self._is_ours():
                    return
            self.is_lost = True
        self._on_lost(self._loss())

    def confirm(self) -> None:
        """Returns when this job is surely the only writer; called before everything that is written to the output.

        Raises:
            LeaseHeldError: Another job took over.
            TemporaryError: The lease expired and cannot be renewed now.
        """
        if self._clock() >= self._until - self._length_s / 4:
            self.renew()
        if self.is_lost:
            raise self._loss()

    def _take(self) -> None:
        seen = None
        while (found := self._store.stat(rundir.LEASE)) is not None:
            held = read(self._store)
            left_s = held.get("until", 0.0) - self._clock()
            if left_s <= 0 or is_dead(held):
                break
            is_new = seen is None
            # A process that can be seen from here, or that renewed while we looked, is alive. So is whoever holds it
            # for longer than a lease lasts: another version of this program.
            if is_here(held) or left_s > self._length_s or found.version != (seen := seen or found.version):
                raise self._refusal(held)
            if is_new:
                self._on_wait(
                    f"{held.get('holder')} may be writing to {self._store.uri}: waiting up to {left_s:.0f} s to see "
                    "whether it is alive."
                )
            self._wait(min(left_s + 0.1, self._length_s / 12))
        try:
            self._write(found.version if found else ABSENT)
        except VersionConflictError as error:
            raise LeaseHeldError(
                f"Another job took {self._store.uri} at the same moment; one output takes one job at a time.",
                next_step="Wait for it, or choose another --output.",
            ) from error

    def _loss(self) -> LeaseHeldError:
        return LeaseHeldError(
            f"Another job took over {self._store.uri}: this one could not renew its lease in time, and stops without "
            "writing again.",
            next_step="Leave the other job alone, or stop it and start this one again.",
        )

    def _refusal(self, held: dict[str, Any]) -> LeaseHeldError:
        until = time.strftime("%H:%M:%S UTC", time.gmtime(held["until"]))
        return LeaseHeldError(
            f"The job {held.get('holder')} is writing to {self._store.uri} (its lease runs until {until}); one "
            "output takes one job at a time.",
            next_step="Wait for it, stop it, or choose another --output. A dead job's lease ends by itself.",
        )

    def _is_ours(self) -> bool:
        """Whether the lease at the output is this job's own; takes its version and expiry over."""
        found, held = self._store.stat(rundir.LEASE), read(self._store)
        if found is None or any(held.get(key) != value for key, value in self._holder.items()):
            return False
        self._version, self._until = found.version, held["until"]
        return True

    def _write(self, version: str) -> None:
        until = self._clock() + self._length_s
        text = json.dumps({**self._holder, "until": until})
        self._version = self._store.write(rundir.LEASE, text.encode(), if_version=version).version
        self._until = until

    def _keep(self) -> None:
        while not self._ended.wait(self._length_s / 3):
            try:
                self.renew()
            except JobError:
                # A bucket that is away for a moment: the next renewal may pass, and nobody else can write either.
                continue
            if self.is_lost:
                return


def read(store: Store) -> dict[str, Any]:
    """Returns what the lease says; nothing where it says nothing sensible or was just given back."""
    try:
        held = json.loads(store.read(rundir.LEASE))
    except (ValueError, InputMissingError):
        return {}
    return held if isinstance(held, dict) else {}


def held_as(store: Store, *, clock: Callable[[], float] = time.time) -> str:
    """Returns what tells the lease that is held from every other one; "" where nobody holds the output."""
    held = read(store)
    return str(held.get("lease", "")) if held.get("until", 0.0) > clock() else ""


def machine() -> str:
    """Returns a name for where process numbers mean the same: one start of one machine, one container.

    The host's name alone would not do: containers that share the host's network share its name but not its processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_here(held: dict[str, Any]) -> bool:
    """Whether the holder is a process of this machine."""
    return held.get("machine") == machine()


def is_dead(held: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if not is_here(held):
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
