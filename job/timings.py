"""How long each stage took and how many images it handled: the table of the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Timings:
    """Seconds and images by stage, in the order the stages began. Seconds of a nested stage count for it alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self.num_images: dict[str, int] = {}
        self._inner_s = [0.0]

    @contextmanager
    def stage(self, name: str, *, num_images: int = 0) -> Iterator[None]:
        """Adds the seconds that its block takes to the stage."""
        self.seconds.setdefault(name, 0.0)
        self.num_images[name] = self.num_images.get(name, 0) + num_images
        self._inner_s.append(0.0)
        start = self._clock()
        try:
            yield
        finally:
            took_s = self._clock() - start
            self.seconds[name] += took_s - self._inner_s.pop()
            self._inner_s[-1] += took_s
