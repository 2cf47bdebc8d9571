"""Many objects at once: as many threads as it takes, progress in the caller's thread, every failure kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from job.errors import AccessError, InputMissingError, JobError, TemporaryError
from job.storage.growth import Growth

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S: Final = 0.1
"""Time between two looks at what is done: waking the caller for each object costs as much as fetching it."""

_MAX_FAILURES: Final = 50
"""Failures after which the rest is not tried: each has used up its own tries, the service is down."""

_NAMED: Final = 5


def for_each(
    items: Sequence[T],
    work: Callable[[T], R],
    *,
    doing: str,
    name: Callable[[T], str],
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """Returns `work` of every item, in no particular order.

    Args:
        doing: "pulling from gs://bucket/photos", for the error.
        name: What an item is called in the error.
        progress: Called in this thread with (items done, items in all), some ten times a second and at the end. May
            raise to stop.

    Raises:
        JobError: One error for all failed items: of the failures' own class where they share it (else
            TemporaryError), naming the first few and the count. A single failure is raised as it is.
    """
    if not items:
        return []
    crew = _Crew(items, work, name)
    try:
        is_over = False
        while not is_over:
            is_over = crew.wait()
            if progress is not None:
                progress(crew.num_done, len(items))
    finally:
        crew.stop()
    if crew.failures:
        raise _summary(crew.failures, len(crew.results), len(items), doing) from crew.failures[0][1]
    return crew.results


class _Crew(Generic[T, R]):
    """Threads that take items; `Growth` says how many.

    Attributes:
        results: Of `work`, in the order in which they came.
        failures: (name, error) of the others.
    """

    def __init__(self, items: Sequence[T], work: Callable[[T], R], name: Callable[[T], str]) -> None:
        self._waiting = deque(items)
        self._work, self._name = work, name
        self.results: list[R] = []
        self.failures: list[tuple[str, Exception]] = []
        self._growth = Growth(time.monotonic())
        self._threads: list[threading.Thread] = []
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_stopped = False
        self._cpu_s: dict[threading.Thread, float] = {}

    @property
    def num_done(self) -> int:
        return len(self.results) + len(self.failures)

    def wait(self) -> bool:
        """Starts the threads that are wanted, waits for a moment, and returns whether all is done."""
        for number in range(self._growth.num):
            if number not in self._running and self._waiting and not self._is_stopped:
                with self._lock:
                    self._running.add(number)
                self._threads.append(threading.Thread(target=self._run, args=(number,), name=f"transfer-{number}"))
                self._threads[-1].start()
        is_over = self._is_over.wait(_LOOK_S)
        self._growth.look(time.monotonic(), self.num_done, sum(self._cpu_s.copy().values()))
        return is_over

    def stop(self) -> None:
        """Begins no further item, and waits for those in work."""
        self._is_stopped = True
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        try:
            while number < self._growth.num and not self._is_stopped:
                try:
                    item = self._waiting.popleft()
                except IndexError:
                    break
                try:
                    self.results.append(self._work(item))
                except Exception as error:
                    self._fail(self._name(item), error)
                self._cpu_s[threading.current_thread()] = time.thread_time()
        finally:
            with self._lock:
                self._running.remove(number)
                if not self._running:
                    self._is_over.set()

    def _fail(self, name: str, error: Exception) -> None:
        self.failures.append((name, error))
        if isinstance(error, AccessError) or len(self.failures) >= _MAX_FAILURES:
            self._is_stopped = True


def _summary(failures: list[tuple[str, Exception]], num_right: int, num_items: int, doing: str) -> Exception:
    first = failures[0][1]
    if len(failures) == 1 or not isinstance(first, JobError):
        return first
    kinds = {type(error) for _, error in failures}
    kind = type(first) if len(kinds) == 1 or kinds <= {AccessError, InputMissingError} else TemporaryError
    named = "; ".join(f"{name}: {getattr(error, 'message', error)}" for name, error in failures[:_NAMED])
    more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    not_tried = num_items - num_right - len(failures)
    rest = f", {not_tried} were not tried" if not_tried else ""
    return kind(
        f"{doing}: {len(failures)} of {num_items} failed ({num_right} are done{rest}): {named}{more}",
        next_step=first.next_step,
    )
