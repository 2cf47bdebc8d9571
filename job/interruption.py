"""SIGTERM and SIGINT: finish the step, save, leave with 143 within the grace period.

Installed before TensorFlow is imported, because as PID 1 an unhandled SIGTERM is ignored, and again after
a multi-worker strategy is made, which swallows it. Python runs handlers between two bytecodes only, so a
handler would not run while a graph step or an upload hangs. But the interpreter's C code also writes the signal's
number to a "wakeup" descriptor, at once; a thread that reads it asks the job to stop, and leaves just before the end
of the grace period if the job has not.
Source: docs.python.org/3/library/signal.html, "Execution of Python signal handlers" and `set_wakeup_fd`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

from job.errors import JobError, StoppedError

MARGIN_S = 3.0
"""Seconds before the end of the grace period at which the watchdog leaves."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether the job was asked to stop.

    Args:
        grace_s: Seconds from the signal to the kill, as Kubernetes' terminationGracePeriodSeconds.
        leave: Ends the process with an exit code.
    """

    def __init__(self, *, grace_s: float = 25.0, leave: Callable[[int], None] = os._exit) -> None:
        self._grace_s = grace_s
        self._leave = leave
        self._asked = threading.Event()
        self._finished = threading.Event()
        # A handler may run in the thread that holds it.
        self._asking = threading.RLock()
        self._wakeup: int | None = None
        self._error: JobError | None = None

    @property
    def may_write(self) -> bool:
        """Whether the run's folder is still this job's to write to."""
        return self._error is None

    @property
    def requested(self) -> bool:
        return self._asked.is_set()

    def install(self) -> None:
        """Handles SIGTERM and SIGINT from now on. Call again after a multi-worker strategy was made."""
        if self._wakeup is None:
            reading, writing = socket.socketpair()
            writing.setblocking(False)
            self._wakeup = writing.detach()  # ends with the process
            threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def request(self) -> None:
        """Asks the job to stop, as the signals do."""
        with self._asking:
            if not self._asked.is_set():
                self._asked.set()
                threading.Thread(target=self._watch, name="grace", daemon=True).start()

    def give_up(self, error: JobError) -> None:
        """As `request`, for a job that must not write any more: `check` raises `error`."""
        self._error = error
        self.request()

    def wait(self, seconds: float) -> None:
        """Waits, or returns earlier when the job is asked to stop."""
        self._asked.wait(seconds)

    def check(self, stage: str) -> None:
        """Raises StoppedError when the job was asked to stop; called where a stage can be left."""
        if self._error is not None:
            raise self._error
        if self.requested:
            raise StoppedError(
                f"Stopped by a signal during {stage}; finished work is kept.",
                next_step="Start the same command again: it continues from here.",
            )

    def finish(self) -> None:
        """Stands the watchdog down: the process is about to leave by itself."""
        self._finished.set()

    def _on_signal(self, number: int, frame: object) -> None:
        self.request()

    def _listen(self, reading: socket.socket) -> None:
        with reading:
            while numbers := reading.recv(16):
                if any(number in SIGNALS for number in numbers):
                    self.request()

    def _watch(self) -> None:
        if not self._finished.wait(max(self._grace_s - MARGIN_S, 0.0)):
            self._leave(StoppedError.exit_code)
