"""Worker processes that hang: noticed by the parent, and killed.

The parent measures, because a decoder that hangs in C may hold the worker's interpreter, and a stopped process runs no
thread at all. It adds up the time between its own looks rather than reading start times: a job that was stopped
together with its workers (Ctrl-Z, a paused container, a suspended laptop) hangs in nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any, Final

_LONGEST_LOOK_S: Final = 1.0


class Activity:
    """What each worker is at, in memory it shares with the parent: a count that is odd while an image is in work."""

    def __init__(self, context: BaseContext, num_workers: int) -> None:
        self.pids = context.RawArray("l", num_workers)
        self.counts = context.RawArray("L", num_workers)
        self._num_enrolled = context.Value("i", 0)
        self._place = -1

    def enrol(self) -> None:
        """Takes a place for this process. Called by the worker, once."""
        with self._num_enrolled.get_lock():
            self._place = self._num_enrolled.value
            self._num_enrolled.value += 1
        self.pids[self._place] = os.getpid()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Says that the worker is at one image while the block runs."""
        self.counts[self._place] += 1
        try:
            yield
        finally:
            self.counts[self._place] += 1


class Watch:
    """The parent's look at its workers; kills all of them when one is overdue, as the pool is lost with the first.

    Made before the workers are: those are the children that this process has then and not now.

    Args:
        limit_s: Longest time at one image, and longest time in which nothing at all moves while something is in work.

    Attributes:
        has_killed: Whether that happened.
    """

    def __init__(self, activity: Activity, limit_s: float) -> None:
        self._activity, self._limit_s = activity, limit_s
        self._others = {process.pid for process in multiprocessing.active_children()}
        self._look_s = min(_LONGEST_LOOK_S, limit_s / 4)
        self._seen = list(activity.counts)
        self._unchanged_s = [0.0] * len(self._seen)
        self._looked_s = time.monotonic()
        self.has_killed = False

    def done(self, work: Collection[Future[Any]]) -> set[Future[Any]]:
        """Returns those that are done, once there are any."""
        while True:
            done = wait(work, timeout=self._look_s, return_when=FIRST_COMPLETED).done
            if done:
                return done
            self._look()

    def kill(self) -> None:
        self.has_killed = True
        # Not by the places: a worker may have been stopped before it took one.
        for process in multiprocessing.active_children():
            if process.pid not in self._others:
                process.kill()  # SIGTERM would not end a stopped one

    def _look(self) -> None:
        now_s = time.monotonic()
        passed_s = min(now_s - self._looked_s, 2 * self._look_s)
        self._looked_s = now_s
        counts = list(self._activity.counts)
        for place, count in enumerate(counts):
            is_same = count == self._seen[place] and self._activity.pids[place] != 0
            self._unchanged_s[place] = self._unchanged_s[place] + passed_s if is_same else 0.0
        self._seen = counts
        is_overdue = any(
            unchanged_s > self._limit_s and count % 2
            for unchanged_s, count in zip(self._unchanged_s, counts, strict=True)
        )
        # A worker that was stopped between two images may hold the queue from which the others take theirs.
        if is_overdue or min(self._unchanged_s) > self._limit_s:
            self.kill()
