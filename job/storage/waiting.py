"""What has still to be begun, and what is to be taken up again later: the threads of `parallel` take from here."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from job.storage.store import Steps

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Begun(Generic[T, R]):
    """An item and its work as far as it has come.

    Attributes:
        is_short: Others may be begun before and after it in the same thread, and wait for it.
    """

    item: T
    steps: Steps[R]
    is_short: bool


class Waiting(Generic[T, R]):
    """Thread-safe; false when it is empty."""

    def __init__(self, items: Iterable[T], work: Callable[[T], Steps[R]], is_short: Callable[[T], bool]) -> None:
        self._items = deque(items)
        self._work, self._is_short = work, is_short
        self._later: list[tuple[float, int, Begun[T, R]]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._items or self._later)

    def take(self, *, is_alone: bool) -> Begun[T, R] | None:
        """Returns what comes next: first what is due again. None where nothing is, or where it may not be shared.

        Args:
            is_alone: The thread has nothing else begun; only then it gets what is not short.
        """
        with self._lock:
            if self._later and self._later[0][0] <= time.monotonic():
                begun = self._later[0][2]
                return heapq.heappop(self._later)[2] if is_alone or begun.is_short else None
            if not self._items:
                return None
            is_short = self._is_short(self._items[0])
            if not (is_alone or is_short):
                return None
            item = self._items.popleft()
            return Begun(item, self._work(item), is_short)

    def put_off(self, begun: Begun[T, R], wait_s: float) -> None:
        with self._lock:
            heapq.heappush(self._later, (time.monotonic() + wait_s, next(self._numbers), begun))

    def pause_s(self) -> float:
        """Returns the time until something is due, seconds."""
        with self._lock:
            return 0.0 if self._items or not self._later else max(0.0, self._later[0][0] - time.monotonic())

    def give_up(self) -> None:
        """Ends what was put off: it may have files and connections open."""
        with self._lock:
            for _, _, begun in self._later:
                begun.steps.close()
            self._later.clear()
            self._items.clear()
