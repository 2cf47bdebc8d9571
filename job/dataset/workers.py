"""Examining many images at once, and outliving a worker process that one of them kills.

Processes, because a decoder that crashes takes its process along, and because Python's own work
between Pillow's C calls would hold threads up on many cores. They are started by a fork server: `fork`
of a process with TensorFlow's threads can deadlock.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
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

Chunk = list[tuple[int, str]]
"""(index, uri) each."""

_examiner: Examiner | None = None
"""The worker process's own; set once by `_start`."""


def examine(examiner: Examiner, uris: Sequence[str], on_progress: Callable[[int], None]) -> list[Finding]:
    """Returns a finding for every uri, in order.

    Args:
        on_progress: Takes the number of images done; what it raises ends the work.

    Raises:
        DatasetError: When more than 20 images kill the process that decodes them.
    """
    if len(uris) <= FEW:
        return _in_threads(examiner, uris, on_progress)
    return _InProcesses(examiner, uris, on_progress).run()


def _in_threads(examiner: Examiner, uris: Sequence[str], on_progress: Callable[[int], None]) -> list[Finding]:
    findings: list[Finding] = []
    pool = ThreadPoolExecutor(num_cores(), thread_name_prefix="survey")
    try:
        for finding in pool.map(examiner, range(len(uris)), uris):
            findings.append(finding)
            on_progress(len(findings))
    finally:
        pool.shutdown(cancel_futures=True)
    return findings


class _InProcesses:
    """One run over all images; after a death, the chunks in work are done again one image at a time."""

    def __init__(self, examiner: Examiner, uris: Sequence[str], on_progress: Callable[[int], None]) -> None:
        self._examiner, self._uris, self._on_progress = examiner, uris, on_progress
        self._findings: dict[int, Finding] = {}
        numbered = list(enumerate(uris))
        size = max(1, min(_CHUNK, len(uris) // (4 * num_cores())))
        self._chunks = deque(numbered[start : start + size] for start in range(0, len(uris), size))
        self._deadly: list[str] = []

    def run(self) -> list[Finding]:
        while self._chunks:
            suspects = deque([image] for chunk in self._work(self._chunks, num_cores()) for image in chunk)
            while suspects:
                for (index, uri), *_ in self._work(suspects, 1):
                    self._bury(index, uri)
        return [self._findings[index] for index in range(len(self._uris))]

    def _work(self, chunks: deque[Chunk], num_workers: int) -> list[Chunk]:
        """Takes chunks until none is left or a worker dies; returns those that were in work when it died."""
        # One chunk more than workers keeps all busy; alone, an image must be the only one in work.
        ahead = num_workers + (num_workers > 1)
        pool = ProcessPoolExecutor(num_workers, _context(), initializer=_start, initargs=(self._examiner,))
        in_work: dict[Future[list[Finding]], Chunk] = {}
        try:
            while chunks or in_work:
                while chunks and len(in_work) < ahead:
                    in_work[pool.submit(_examine_chunk, chunks[0])] = chunks[0]
                    chunks.popleft()
                for future in wait(in_work, return_when=FIRST_COMPLETED).done:
                    self._keep(in_work[future], future.result())
                    del in_work[future]
        except BrokenProcessPool:
            return list(in_work.values())
        finally:
            pool.shutdown(cancel_futures=True)
        return []

    def _keep(self, chunk: Chunk, findings: Sequence[Finding]) -> None:
        self._findings.update((index, finding) for (index, _), finding in zip(chunk, findings, strict=True))
        self._on_progress(len(self._findings))

    def _bury(self, index: int, uri: str) -> None:
        self._deadly.append(uri)
        if len(self._deadly) > _MAX_DEATHS:
            raise DatasetError(
                f"More than {_MAX_DEATHS} images ended the process that decodes them, the first: {self._deadly[:3]}.",
                next_step="Give the job more memory (out of memory looks like this), or lower data.max_megapixels.",
            )
        died = Finding(Verdict.CORRUPT, "the process that decoded it died (crash or out of memory)")
        self._keep([(index, uri)], [died])


def _context() -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _start(examiner: Examiner) -> None:
    global _examiner
    _examiner = examiner
    # Ctrl-C reaches the whole process group; the parent alone decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _examine_chunk(chunk: Chunk) -> list[Finding]:
    assert _examiner is not None, "the worker was not started by _start"
    return [_examiner(index, uri) for index, uri in chunk]
