"""What an image costs in a data set of a thousand and of a million, by repeating a small set.

Flat is a cost that stays within half as much again: a thousand rows live in the processor's caches, a million do not.
The survey is shown up to what its decoding allows in seconds. The feed reads a sparse pack, once before it is measured:
what is measured is finding the examples and gathering them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jobs
import numpy as np
import repeated
import room
import turns
from room import Setup
from rows import Limit, Row

from job.config import SplitConfig
from job.dataset import likeness, split, survey, table
from job.dataset.examine import Examiner
from job.dataset.feed import Feed
from job.dataset.pack import PackedPixels, pack_bytes
from job.dataset.summary import summarise

FLAT = Limit("ratio", 1.5)
PX = 32
SMALL = 1000


def sides(setup: Setup, work: Callable[[int], float], large: int, *, repeats: int) -> dict[str, tuple[float, ...]]:
    """Returns microseconds an item at the large and at the small size; the small one is the mean of several."""
    again = setup.size(2, 10)
    return turns.interleaved(
        {
            "large": lambda: 1e6 * work(large) / large,
            "small": lambda: 1e6 * sum(work(SMALL) for _ in range(again)) / (again * SMALL),
        },
        repeats=repeats,
    )


def row(name: str, found: dict[str, tuple[float, ...]], large: int, limit: Limit | None = FLAT, note: str = "") -> Row:
    shown = f"{large:,} beside {SMALL:,}" + (f"; {note}" if note else "")
    return Row("scale", name, "µs/image", found["large"], found["small"], limit, shown)


def surveyed(setup: Setup) -> Row:
    reader, large = repeated.reader(PX), setup.size(3000, 20_000)

    def work(num: int) -> float:
        examples = repeated.examples(num)

        def look() -> None:
            found = survey.look(examples, Examiner(reader, min_px=1, max_megapixels=100.0, stored_px=PX))
            assert len(survey.rows_of(examples, found, reader, near_duplicates=False)) == num

        return turns.seconds(look)

    return row("survey, decoding included", sides(setup, work, large, repeats=setup.size(1, 2)), large)


def split_and_listed(setup: Setup) -> list[Row]:
    large, fractions = setup.size(20_000, 1_000_000), SplitConfig()
    before_bytes = turns.rss_bytes()
    many, few = list(repeated.rows(large)), list(repeated.rows(SMALL))
    row_bytes = (turns.rss_bytes() - before_bytes) / large

    def work(num: int) -> float:
        path, rows = setup.folder / "rows.csv", many if num == large else few

        def listed() -> None:
            assigned = split.assign(rows, fractions, 0)
            summarise(assigned, split_note="", warnings=())
            table.write(path, assigned)
            assert len(table.read(path)) == num

        return turns.seconds(listed)

    found = sides(setup, work, large, repeats=1)
    return [
        row("split, summary, `dataset.csv` written and read", found, large),
        Row("scale", "memory of a row", "bytes", (row_bytes,), (), None, f"of {large:,}"),
    ]


def near_duplicates(setup: Setup) -> Row:
    large = setup.size(20_000, 1_000_000)
    hashes = np.random.default_rng(0).integers(0, 2**63, large, np.uint64)
    found = sides(setup, lambda num: turns.seconds(lambda: likeness.proposals(hashes[:num])), large, repeats=1)
    return row("near-duplicates proposed", found, large, None, "sorting: N log N")


def sparse_pack(folder: Path, num: int) -> PackedPixels:
    path = folder / f"pack-{num}.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (num, PX, PX, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(pack_bytes(num, PX))
    return PackedPixels(path)


def fed(setup: Setup) -> list[Row]:
    large, num_steps = setup.size(20_000, 1_000_000), setup.size(50, 1000)

    def feed(num: int) -> Feed:
        pixels = sparse_pack(setup.folder, num)
        return Feed(np.arange(num), np.zeros(num, np.int32), lambda i, _: pixels.gather(i), batch=jobs.BATCH, seed=0)

    feeds = {num: feed(num) for num in (SMALL, large)}
    shown = num_steps * jobs.BATCH

    def steps(num: int, first: int) -> float:
        def work() -> None:
            for _ in jobs.one_by_one(feeds[num], first, first + num_steps):
                pass

        return 1e6 * turns.seconds(work) / shown

    def first_batch(num: int) -> float:
        """Microseconds an image of the first batch of an epoch that was not begun yet."""
        epoch = iter(range(1, 1000))
        starts = [next(epoch) * num // jobs.BATCH for _ in range(setup.size(5, 50))]
        took = [turns.seconds(partial(feeds[num].batch, start)) for start in starts]
        return 1e6 * float(np.median(took)) / jobs.BATCH

    before_bytes = turns.rss_bytes()
    repeats = setup.size(1, 5)
    steps(large, 0)
    running = turns.interleaved({"large": lambda: steps(large, 0), "small": lambda: steps(SMALL, 0)}, repeats=repeats)
    grown_mb = (turns.rss_bytes() - before_bytes) / 1e6
    start = turns.interleaved(
        {"large": lambda: first_batch(large), "small": lambda: first_batch(SMALL)}, repeats=repeats
    )
    return [
        row("feed", running, large),
        row("first batch of an epoch", start, large),
        Row("scale", "memory that the feed adds", "MB", (grown_mb,), (), None, "pages of the pack included"),
    ]


def measure(setup: Setup) -> list[Row]:
    return [surveyed(setup), *split_and_listed(setup), near_duplicates(setup), *fed(setup)]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
