"""Examining many images at once, and outliving a worker process that one of them kills.

Processes, because a decoder that crashes takes its process along, and because Python's own work
between Pillow's C calls would hold threads up on many cores. They are started by a fork server: `fork`
of a process with TensorFlow's threads can deadlock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from types import ModuleType
from typing import Final

from job.dataset.cores import num_cores
from job.dataset.examine import Examiner, Finding
from job.dataset.example import Verdict
from job.errors import DatasetError

FEW: Final = 200
"""Images up to which starting processes (about 0.3 s) costs more than they save; threads do it."""

_CHUNK: Final = 32
_MAX_DEATHS: Final = 20
"""Images that may kill a worker before the job gives up; each costs the start of a process."""

Image = tuple[int, str]
"""(index, uri)"""

OnFound = Callable[[list[tuple[int, Finding]]], None]
"""Takes (index, finding) of images that are done; what it raises ends the work."""

_examiner: Examiner | None = None
_is_stopped: Event | None = None
"""The worker process's own; set once by `_start`."""


def examine(examiner: Examiner, images: Sequence[Image], on_found: OnFound) -> None:
    """Examines every image; the findings come in any order, each once.

    Raises:
        DatasetError: When more than 20 images kill the process that decodes them.
    """
    if len(images) <= FEW:
        _in_threads(examiner, images, on_found)
    else:
        _InProcesses(examiner, images, on_found).run()


def _in_threads(examiner: Examiner, images: Sequence[Image], on_found: OnFound) -> None:
    pool = ThreadPoolExecutor(num_cores(), thread_name_prefix="survey")
    try:
        for (index, _), finding in zip(images, pool.map(lambda image: examiner(*image), images), strict=True):
            on_found([(index, finding)])
    finally:
        pool.shutdown(cancel_futures=True)


class _InProcesses:
    """One run over all images; after a death, the chunks in work are done again one image at a time."""

    def __init__(self, examiner: Examiner, images: Sequence[Image], on_found: OnFound) -> None:
        self._examiner, self._on_found = examiner, on_found
        size = max(1, min(_CHUNK, len(images) // (4 * num_cores())))
        self._chunks = deque(list(images[start : start + size]) for start in range(0, len(images), size))
        self._deadly: list[str] = []

    def run(self) -> None:
        while self._chunks:
            suspects = deque([image] for chunk in self._work(self._chunks, num_cores()) for image in chunk)
            while suspects:
                for (index, uri), *_ in self._work(suspects, 1):
                    self._bury(index, uri)

    def _work(self, chunks: deque[list[Image]], num_workers: int) -> list[list[Image]]:
        """Takes chunks until none is left or a worker dies; returns those that were in work when it died."""
        # One chunk more than workers keeps all busy; alone, an image must be the only one in work.
        ahead = num_workers + (num_workers > 1)
        context = _context()
        is_stopped = context.Event()
        pool = ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(self._examiner, is_stopped))
        in_work: dict[Future[list[tuple[int, Finding]]], list[Image]] = {}
        try:
            while chunks or in_work:
                while chunks and len(in_work) < ahead:
                    with _nameless_program():
                        in_work[pool.submit(_examine_chunk, chunks[0])] = chunks[0]
                    chunks.popleft()
                for future in wait(in_work, return_when=FIRST_COMPLETED).done:
                    self._on_found(future.result())
                    del in_work[future]
        except BrokenProcessPool:
            return list(in_work.values())
        finally:
            is_stopped.set()
            pool.shutdown(cancel_futures=True)
        return []

    def _bury(self, index: int, uri: str) -> None:
        self._deadly.append(uri)
        if len(self._deadly) > _MAX_DEATHS:
            raise DatasetError(
                f"More than {_MAX_DEATHS} images ended the process that decodes them, the first: {self._deadly[:3]}.",
                next_step="Give the job more memory (out of memory looks like this), or lower data.max_megapixels.",
            )
        writer = self._examiner.writer
        reason = "the process that decoded it died (crash or out of memory)"
        died = Finding(Verdict.CORRUPT, reason, pixels_crc32=writer.put(index, None) if writer else 0)
        self._on_found([(index, died)])


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
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


def _start(examiner: Examiner, is_stopped: Event) -> None:
    global _examiner, _is_stopped
    _examiner, _is_stopped = examiner, is_stopped
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
    found = []
    for index, uri in chunk:
        if _is_stopped is not None and _is_stopped.is_set():
            break
        found.append((index, _examiner(index, uri)))
    return found
