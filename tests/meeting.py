"""Machines that are threads: what they tell each other goes through a barrier."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from job.dataset.shares import Share


class Meeting:
    """The shares of several machines, each for a thread of its own."""

    def __init__(self, num_workers: int) -> None:
        self.shares = [
            Share(worker, num_workers, lambda mine, worker=worker: self._gather(worker, mine))  # type: ignore[misc]
            for worker in range(num_workers)
        ]
        self._said = [b""] * num_workers
        self._barrier = threading.Barrier(num_workers, timeout=60)

    def _gather(self, worker: int, mine: bytes) -> Sequence[bytes]:
        self._said[worker] = mine
        self._barrier.wait()
        heard = list(self._said)
        self._barrier.wait()
        return heard
