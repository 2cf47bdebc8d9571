"""Which steps are made in one call: several where each computes so little that Python between them is most of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

MAX_STEPS: Final = 10
"""In one call. It is what a stop waits for, and the curves get a point every 10 steps anyway."""
_MAX_BYTES: Final = 8 << 20
"""Of the inputs of one call. What is larger computes for so long that Python does not count."""


def steps_at_once(batch_bytes: int) -> int:
    """Returns how many steps one call makes, 1..10, for batches whose inputs take so many bytes."""
    return max(1, min(MAX_STEPS, _MAX_BYTES // max(batch_bytes, 1)))


def spans(first: int, last: int, *, at_once: int, ends: Sequence[int]) -> Iterator[range]:
    """Cuts the steps [first, last) into runs of at most `at_once` steps.

    Where one ends depends on the steps alone, not on the first of them: a run that goes on in the middle of a phase
    looks at the same moments as one that was never stopped.

    Args:
        ends: No run goes on behind a multiple of any of these.
    """
    while first < last:
        end = min(last, *(first - first % every + every for every in (at_once, *ends)))
        yield range(first, end)
        first = end
