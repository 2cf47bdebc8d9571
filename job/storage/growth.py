"""How many threads a transfer needs, found out while it runs. Pure: time and counts are arguments."""

from __future__ import annotations

from typing import Final

FEWEST: Final = 1
"""Where the other side answers at once, more of them only hand each other the interpreter's lock: one fetches 4,800
objects of 25 KB a second, two 3,800 and four 2,900, with twice the processor time."""

MOST: Final = 64
"""Where each has one object under way, 2,000 a second with 30 ms to the first byte."""

_BUSY: Final = 0.35
"""Processor seconds a second from which more threads in one interpreter do not help."""

_TIMES: Final = 8
"""Times the threads at each step: 64 are there after two."""

_WORTH: Final = 1.3
"""Times the rate that they have to reach then. It is 8 where each waits for an answer of its own, and 1 where all wait
for one thing: the server, the line, or this machine's processors."""

_LEAST_S: Final = 0.025
_LONGEST_S: Final = 0.5
"""A judgement takes so long at least, and at most even where nothing was finished meanwhile: large objects."""

_AGAIN_S: Final = 5.0
"""Until more threads are tried again after they did not help."""


class Growth:
    """Multiplies the number of threads for as long as that pays.

    Args:
        now_s: Of a monotonic clock.
    """

    def __init__(self, now_s: float) -> None:
        self.num = FEWEST
        self._before = 0.0
        """Rate with the fewer threads of the step before, objects a second; 0 once it was compared."""
        self._not_before_s = now_s
        self._is_new = False
        """The threads of the last step have still to connect: a rate that says nothing of them."""
        self._begin(now_s, 0, 0.0)

    def look(self, now_s: float, num_done: int, cpu_s: float) -> int:
        """Returns how many threads there should be from now on.

        Args:
            num_done: Objects since the beginning.
            cpu_s: Processor seconds that the threads used since the beginning.
        """
        passed_s, num = now_s - self._since_s, num_done - self._since_num
        if passed_s < _LEAST_S or (num < 2 * self.num and passed_s < _LONGEST_S):
            return self.num
        rate, share = num / passed_s, (cpu_s - self._since_cpu_s) / passed_s
        if self._is_new:
            self._is_new = False
        elif rate < _WORTH * self._before:
            self.num, self._before, self._not_before_s = self.num // _TIMES, 0.0, now_s + _AGAIN_S
        elif share < _BUSY and self.num < MOST and now_s >= self._not_before_s:
            self.num, self._before, self._is_new = _TIMES * self.num, rate, True
        else:
            self._before = 0.0
        self._begin(now_s, num_done, cpu_s)
        return self.num

    def _begin(self, now_s: float, num_done: int, cpu_s: float) -> None:
        self._since_s, self._since_num, self._since_cpu_s = now_s, num_done, cpu_s
