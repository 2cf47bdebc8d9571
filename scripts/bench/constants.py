"""What one image, and one machine, cost beyond the pixels: the constants behind docs/scaling.md.

    .venv/bin/python scripts/bench/constants.py --images 200000

On made-up rows: bytes and seconds a row of the dataset's table, and the start of a feed at step 0 and far on.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from job.config import SplitConfig
from job.dataset import likeness, split, table
from job.dataset.examine import Finding
from job.dataset.example import Example, Row, Verdict
from job.quiet import import_tensorflow


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start_s = time.perf_counter()
    result = work()
    return time.perf_counter() - start_s, result


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def held_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def row(number: int) -> Row:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    name = f"class-{number % 1000:03d}"
    return Row(number, f"{name}/{digest[:16]}.jpg", name, None, Verdict.OK, "", "", digest, 500, 375, 110_000)


def feed_starts(num: int) -> tuple[float, float, float]:
    """Returns seconds of a batch's rows of 1,024 at step 0 and a million steps on, and of its random numbers."""
    from job.dataset.feed import Feed, uniforms

    labels = np.zeros(num, np.int32)
    feed = Feed(np.arange(num), labels, lambda indices, _: np.zeros((len(indices), 1), np.uint8), batch=1024, seed=0)
    feed.indices(0)
    first_s, (indices, epochs) = timed(lambda: feed.indices(0))
    late_s, _ = timed(lambda: feed.indices(1_000_000))
    randoms_s, _ = timed(lambda: uniforms(0, epochs, indices))
    return first_s, late_s, randoms_s


def main() -> None:
    """Prints one constant a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000, help="made-up rows (default: %(default)s)")
    num = parser.parse_args().images

    before = held_bytes()
    rows = [row(number) for number in range(num)]
    print(f"a row in memory             {(held_bytes() - before) / num:8.0f} bytes")
    before = peak_bytes()
    seconds, assigned = timed(lambda: split.assign(rows, SplitConfig(), seed=0))
    print(f"splitting, in memory        {(peak_bytes() - before) / num:8.0f} bytes more")
    print(f"splitting                   {seconds / num * 1e6:8.2f} us an image")
    before = held_bytes()
    kept = [Example(one.uri, one.label, None) for one in rows]
    print(f"an example in memory        {(held_bytes() - before) / num:8.0f} bytes more")
    before = held_bytes()
    found = {one.index: Finding(Verdict.OK, "", "", one.sha256 + "", 1, 1, 1, f"{one.index:016x}") for one in rows}
    print(f"a finding in memory         {(held_bytes() - before) / num:8.0f} bytes more")
    kept.clear()
    found.clear()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.csv"
        seconds, _ = timed(lambda: table.write(path, assigned))
        size = path.stat().st_size
        print(f"writing dataset.csv         {seconds / num * 1e6:8.2f} us an image, {size / num:.0f} bytes")
        seconds, _ = timed(lambda: table.read(path))
        print(f"reading dataset.csv         {seconds / num * 1e6:8.2f} us an image")
    hashes = np.array([random.Random(number).getrandbits(64) for number in range(num)], np.uint64)
    seconds, pairs = timed(lambda: likeness.proposals(hashes))
    print(f"proposing near-duplicates   {seconds / num * 1e6:8.2f} us an image ({len(pairs)} pairs)")
    import_tensorflow()
    for many in (num, 100_000_000):
        first_s, late_s, randoms_s = feed_starts(many)
        print(
            f"feed of {many:>11}         {first_s * 1e3:8.2f} ms for the rows of step 0, {late_s * 1e3:.2f} a million "
            f"steps on; {randoms_s / 1024 * 1e6:.2f} us of random numbers an image"
        )


if __name__ == "__main__":
    main()
