"""Many objects at once: as many threads as it takes, progress in the caller's thread, every failure kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from job.errors import AccessError, InputMissingError, JobError, TemporaryError
from job.storage.growth import Growth
from job.storage.store import Steps
from job.storage.waiting import Begun, Waiting

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S: Final = 0.03
"""Time between two looks at what is done: waking the caller for each object costs as much as fetching it."""

_TELL_S: Final = 0.1
"""Time between two words to the caller."""

_HELD: Final = 16
"""Items that a thread has begun at most where several may be: each answer that is there already, when its turn comes,
is a hand-over of the interpreter's lock less, and 256 answers under way take 16 threads instead of 256."""

_MOST_HELD: Final = 256
"""By all threads together, while these are fewer: with 30 ms to the first byte 8,000 objects a second."""

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

    def steps(item: T) -> Steps[R]:
        yield from ()
        return work(item)

    return in_turns(items, steps, is_short=lambda _: False, doing=doing, name=name, progress=progress)


def in_turns(
    items: Sequence[T],
    work: Callable[[T], Steps[R]],
    *,
    is_short: Callable[[T], bool],
    doing: str,
    name: Callable[[T], str],
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """As `for_each`, for work by steps: what waits for an answer or for another try does not hold up its thread.

    Args:
        is_short: Whether other items may be begun before and after this one in the same thread, and wait for it.
    """
    if not items:
        return []
    crew = _Crew(Waiting(items, work, is_short), name)
    try:
        is_over, told_s = False, 0.0
        while not is_over:
            is_over = crew.wait()
            if progress is not None and (is_over or time.monotonic() >= told_s + _TELL_S):
                told_s = time.monotonic()
                progress(crew.num_done, len(items))
    finally:
        crew.stop()
    if crew.failures:
        raise _summary(crew.failures, len(crew.results), len(items), doing) from crew.failures[0][1]
    return crew.results


class _Crew(Generic[T, R]):
    """Threads that take items; `Growth` says how many.

    Attributes:
        results: Of the work, in the order in which they came.
        failures: (name, error) of the others.
    """

    def __init__(self, waiting: Waiting[T, R], name: Callable[[T], str]) -> None:
        self._waiting, self._name = waiting, name
        self.results: list[R] = []
        self.failures: list[tuple[str, Exception]] = []
        self._growth = Growth(time.monotonic())
        self._threads: list[threading.Thread] = []
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_stopped = threading.Event()
        self._cpu_s: dict[threading.Thread, float] = {}

    @property
    def num_done(self) -> int:
        return len(self.results) + len(self.failures)

    def wait(self) -> bool:
        """Starts the threads that are wanted, waits for a moment, and returns whether all is done."""
        for number in range(self._growth.num):
            if number not in self._running and self._waiting and not self._is_stopped.is_set():
                with self._lock:
                    self._running.add(number)
                self._threads.append(threading.Thread(target=self._run, args=(number,), name=f"transfer-{number}"))
                self._threads[-1].start()
        is_over = self._is_over.wait(_LOOK_S)
        self._growth.look(time.monotonic(), self.num_done, sum(self._cpu_s.copy().values()))
        return is_over

    def stop(self) -> None:
        """Takes nothing further up, and waits for what the threads are at."""
        self._is_stopped.set()
        for thread in self._threads:
            thread.join()
        self._waiting.give_up()

    def _run(self, number: int) -> None:
        held: deque[Begun[T, R]] = deque()
        next_s = 0.0
        try:
            while not self._is_stopped.is_set():
                if begun := self._next(number, held):
                    self._step(begun, held)
                elif number < self._growth.num and self._waiting:
                    self._is_stopped.wait(self._waiting.pause_s())
                else:
                    break
                if (now_s := time.monotonic()) >= next_s:  # a system call, which is too much for each item
                    next_s = now_s + _LOOK_S / 5
                    self._cpu_s[threading.current_thread()] = time.thread_time()
        finally:
            for begun in held:
                begun.steps.close()
            with self._lock:
                self._running.remove(number)
                # For what a thread that is one too many put off, `wait` starts another one.
                if not self._running and (self._is_stopped.is_set() or not self._waiting):
                    self._is_over.set()

    def _next(self, number: int, held: deque[Begun[T, R]]) -> Begun[T, R] | None:
        """Returns something new as long as the thread may hold more, then what it began first."""
        num = self._growth.num
        if number < num and (not held or (held[0].is_short and len(held) < min(_HELD, _MOST_HELD // num))):
            begun = self._waiting.take(is_alone=not held)
            if begun is not None:
                return begun
        return held.popleft() if held else None

    def _step(self, begun: Begun[T, R], held: deque[Begun[T, R]]) -> None:
        try:
            wait_s = next(begun.steps)
        except StopIteration as end:
            self.results.append(end.value)
        except Exception as error:
            self.failures.append((self._name(begun.item), error))
            if isinstance(error, AccessError) or len(self.failures) >= _MAX_FAILURES:
                self._is_stopped.set()
        else:
            if wait_s:
                self._waiting.put_off(begun, wait_s)
            else:
                held.append(begun)


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
