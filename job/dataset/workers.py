"""Examining many images at once, and outliving a worker process that one of them kills or keeps for ever.

Processes however few the images, because a decoder that crashes takes its process along, one that hangs can be ended
in no other way, and Python's own work between Pillow's C calls would hold threads up on many cores. They are started
by a fork server: `fork` of a process with TensorFlow's threads can deadlock. The start of two takes 0.15 s, the first
time 0.3 s.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from types import ModuleType
from typing import Final

from job.dataset.cores import num_cores
from job.dataset.examine import Examiner, Finding
from job.dataset.example import Verdict
from job.dataset.overdue import Activity, Watch
from job.errors import DatasetError

LIMIT_S: Final = 120.0
"""Longest time at one image; the largest that are allowed take some ten seconds, on slow storage more."""

_CHUNK: Final = 16
_DECODERS: Final = ("Bmp", "Gif", "Jpeg", "Png", "Ppm")
"""What Pillow loads with the first image."""
_WORTH_A_PROCESS: Final = 16
"""Images that take about as long as the start of one more process."""
_MAX_DEATHS: Final = 20
"""Images that may kill a worker before the job gives up; each costs the start of a process."""

_SHARED_MEMORY: Final = "/dev/shm"
"""Where Linux keeps the semaphores of processes (sem_overview(7)); a pod may lack the right to write there."""

Image = tuple[int, str]
"""(index, uri)"""

OnFound = Callable[[list[tuple[int, Finding]]], None]
"""Takes (index, finding) of images that are done; what it raises ends the work."""

_examiner: Examiner | None = None
_is_stopped: Event | None = None
_activity: Activity | None = None
"""The worker process's own; set once by `_start`."""


def examine(examiner: Examiner, images: Sequence[Image], on_found: OnFound, *, limit_s: float = LIMIT_S) -> None:
    """Examines every image; the findings come in any order, each once.

    Args:
        limit_s: Longest time at one image, above 0; it is given twice, the second time with nothing beside it.

    Raises:
        DatasetError: When more than 20 images kill the process that decodes them, or take it longer than that.
    """
    _Examination(examiner, images, on_found, limit_s).run()


class _Examination:
    """One run over all images; after a death, the chunks in work are done again one image at a time."""

    def __init__(self, examiner: Examiner, images: Sequence[Image], on_found: OnFound, limit_s: float) -> None:
        self._examiner, self._on_found, self._limit_s = examiner, on_found, limit_s
        self._num_workers = min(num_cores(), math.ceil(len(images) / _WORTH_A_PROCESS))
        size = max(1, min(_CHUNK, len(images) // (4 * num_cores())))
        self._chunks = deque(list(images[start : start + size]) for start in range(0, len(images), size))
        self._deadly: list[str] = []

    def run(self) -> None:
        while self._chunks:
            suspects = deque([image] for chunk in self._work(self._chunks, self._num_workers) for image in chunk)
            while suspects:
                for (index, uri), *_ in self._work(suspects, 1):
                    self._bury(index, uri)

    def _work(self, chunks: deque[list[Image]], num_workers: int) -> list[list[Image]]:
        """Takes chunks until none is left or a worker dies; returns those that were in work when it died."""
        # One chunk more than workers keeps all busy; alone, an image must be the only one in work.
        ahead = num_workers + (num_workers > 1)
        context = _context()
        with _named(_SHARED_MEMORY):
            is_stopped, activity = context.Event(), Activity(context, num_workers)
        self._watch = watch = Watch(activity, self._limit_s)
        initial = (self._examiner, is_stopped, activity)
        with _named(_SHARED_MEMORY):
            pool = ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=initial)
        in_work: dict[Future[list[tuple[int, Finding]]], list[Image]] = {}
        try:
            while chunks or in_work:
                while chunks and len(in_work) < ahead:
                    with _nameless_program():
                        in_work[pool.submit(_examine_chunk, chunks[0])] = chunks[0]
                    chunks.popleft()
                for future in watch.done(in_work):
                    self._on_found(future.result())
                    del in_work[future]
        except BrokenProcessPool:
            return list(in_work.values())
        finally:
            is_stopped.set()
            _shut_down(pool, watch, self._limit_s)
        return []

    def _bury(self, index: int, uri: str) -> None:
        self._deadly.append(uri)
        if len(self._deadly) > _MAX_DEATHS:
            raise DatasetError(
                f"More than {_MAX_DEATHS} images ended the process that decodes them or took it more than "
                f"{self._limit_s:g} s, the first: {self._deadly[:3]}.",
                next_step="Give the job more memory (out of memory looks like this), lower data.max_megapixels, or "
                "look whether the storage of the images answers.",
            )
        verdict, reason = Verdict.CORRUPT, "the process that decoded it died (crash or out of memory)"
        if self._watch.has_killed:
            verdict, reason = Verdict.TOO_SLOW, f"reading and decoding it took longer than {self._limit_s:g} s, twice"
        writer = self._examiner.writer
        self._on_found([(index, Finding(verdict, reason, pixels_crc32=writer.put(index, None) if writer else 0))])


def _shut_down(pool: ProcessPoolExecutor, watch: Watch, limit_s: float) -> None:
    """Ends the workers once each is through with its image; those that are not in time are killed."""
    ending = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True}, daemon=True)
    ending.start()
    ending.join(limit_s)
    if ending.is_alive():
        watch.kill()
        ending.join()


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *(f"PIL.{form}ImagePlugin" for form in _DECODERS)])
    return context


@contextmanager
def _nameless_program() -> Iterator[None]:
    """Keeps processes that start meanwhile from importing the program that started them.

    multiprocessing does so for functions that live there; ours do not. A script without
    `if __name__ == "__main__":` would run all over again in every worker.
    """
    program = sys.modules["__main__"]
    # What names no file and no module is not imported (multiprocessing.spawn.get_preparation_data).
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Adds to an operating-system error that names no file which one it is about."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def _start(examiner: Examiner, is_stopped: Event, activity: Activity) -> None:
    global _examiner, _is_stopped, _activity
    _examiner, _is_stopped, _activity = examiner, is_stopped, activity
    activity.enrol()
    # Ctrl-C reaches the whole process group; the parent alone decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()


def _leave_with_parent() -> None:
    """Ends this process when the parent is no more: a killed one tells nobody, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _examine_chunk(chunk: list[Image]) -> list[tuple[int, Finding]]:
    """Returns what was found; once the work was stopped, only what was done by then."""
    assert _examiner is not None, "the worker was not started by _start"
    return _examiner(_at_work(chunk))


def _at_work(chunk: list[Image]) -> Iterator[Image]:
    """Yields the images, each of which is in work until the next one is asked for."""
    assert _activity is not None, "the worker was not started by _start"
    for image in chunk:
        if _is_stopped is not None and _is_stopped.is_set():
            return
        with _activity.at_work():
            yield image
