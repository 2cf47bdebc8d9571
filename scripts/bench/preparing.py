"""Survey and pack beside decoding the same files once with Pillow, in as many processes as there are cores.

Ours is everything between a folder and a data set that can be trained on: reading, checking, hashing, decoding, fitting
to the stored square, the pack, the journal, the table, near-duplicates and the split. Both start their processes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from pathlib import Path

import photographs
import room
import turns
from PIL import Image
from room import Setup
from rows import Limit, Row

from job.config import DataConfig
from job.dataset import prepare
from job.dataset.cores import num_cores

STORED_PX = 160


def decode(path: str) -> int:
    with Image.open(path) as image:
        return image.convert("RGB").size[0]


def with_pillow(paths: list[str]) -> None:
    with multiprocessing.get_context("fork").Pool(num_cores()) as pool:
        for _ in pool.imap_unordered(decode, paths, chunksize=16):
            pass


def measure(setup: Setup) -> list[Row]:
    return [beside_pillow(setup, num=setup.size(260, 1200)), beside_pillow(setup, num=setup.size(90, 400), px=1200)]


def beside_pillow(setup: Setup, *, num: int, px: int = 448) -> Row:
    images = photographs.large(setup, num=num, px=px)
    paths = sorted(str(path) for path in images.rglob("*.jpg"))
    works = (setup.folder / f"work-{px}-{number}" for number in itertools.count())

    def ours(work_dir: Path) -> None:
        found = prepare.prepare(DataConfig(), dataset_dir=images, work_dir=work_dir, stored_px=STORED_PX, seed=0)
        assert len(found.rows) == len(paths)
        assert not found.is_cached

    took = turns.interleaved(
        {
            "ours": lambda: turns.seconds(lambda: ours(next(works))),
            "pillow": lambda: turns.seconds(lambda: with_pillow(paths)),
        },
        repeats=setup.size(2, 3),
    )
    note = f"{len(paths)} files, {num_cores()} processes, stored at {STORED_PX} px"
    name = f"JPEGs of {px} px beside decoding with Pillow"
    return Row("survey + pack", name, "s", took["ours"], took["pillow"], Limit("ratio", 1.15), note)


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
