"""Sides that take turns: a machine that is busy for a while is busy for all of them."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def interleaved(sides: Mapping[str, Callable[[], T]], *, repeats: int) -> dict[str, tuple[T, ...]]:
    """Returns what each side gave in each round; nobody always comes first."""
    names = list(sides)
    found: dict[str, list[T]] = {name: [] for name in names}
    for turn in range(repeats):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            gc.collect()
            found[name].append(sides[name]())
    return {name: tuple(values) for name, values in found.items()}


@dataclass
class Took:
    """What a block of work took.

    Attributes:
        cpu_s: Processor seconds of this process and of its children that ended meanwhile.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def watch() -> Iterator[Took]:
    """Measures its block."""
    took, start_s, start_cpu_s = Took(), time.perf_counter(), _cpu_s()
    yield took
    took.seconds, took.cpu_s = time.perf_counter() - start_s, _cpu_s() - start_cpu_s


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds(work: Callable[[], object]) -> float:
    with watch() as took:
        work()
    return took.seconds


def rates(num: float, took_s: Sequence[float]) -> tuple[float, ...]:
    """Returns `num` things a second of each round."""
    return tuple(num / one for one in took_s)


def rss_bytes() -> int:
    """Returns this process's resident memory of the moment (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
