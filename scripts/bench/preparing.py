"""Survey and pack beside decoding the same files once with Pillow, in as many processes as there are cores.

Ours is everything between a folder and a data set that can be trained on: reading, checking, hashing, decoding, fitting
to the stored square, the pack, the journal, the table, near-duplicates and the split. Both start their workers in every
round; ours come from a fork server, whose own start the first round has alone.

Pillow's is a program of its own, whose allocator begins as glibc comes, as our workers' does. Forked from this process,
whose allocator has learnt to keep large blocks, the same takes about half as long: shown, and not what is required.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import decoder
import photographs
import room
import turns
from room import Setup
from rows import Limit, Row

from job.config import DataConfig
from job.dataset import prepare
from job.dataset.cores import num_cores

STORED_PX = 160


def as_program(paths: list[str]) -> float:
    """Returns the seconds of decoding with Pillow in a program that does nothing else."""
    command = [sys.executable, str(Path(decoder.__file__))]
    done = subprocess.run(command, input="\n".join(paths), cwd=room.ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(setup: Setup) -> list[Row]:
    return [
        *beside_pillow(setup, num=setup.size(260, 1200)),
        *beside_pillow(setup, num=setup.size(90, 400), px=1200),
    ]


def beside_pillow(setup: Setup, *, num: int, px: int = 448) -> list[Row]:
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
            "program": lambda: as_program(paths),
            "forked": lambda: turns.seconds(lambda: decoder.decode_all(paths)),
        },
        repeats=setup.size(2, 5),
    )
    note = f"{len(paths)} files, {num_cores()} processes, stored at {STORED_PX} px"
    name = f"JPEGs of {px} px beside decoding with Pillow"
    return [
        Row("survey + pack", name, "s", took["ours"], took["program"], Limit("ratio", 1.15), note),
        Row("survey + pack", f"{name}, forked", "s", took["ours"], took["forked"], None, "for information"),
    ]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
