"""What the loop costs on 1, 2, 4 and 8 replicas (virtual CPU devices), for each of them.

The step is a head's on cached features of the same global batch: it computes next to nothing, so that what is left is
splitting the batch, starting the replicas and reducing their gradients. Each number of replicas is a process of its
own. The bare side is the same step of the same replicas, in a loop inside a graph.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import room
import turns
from room import Setup
from rows import Row

REPLICAS = (1, 2, 4, 8)

_PROGRAM = """
import json, sys, pathlib
sys.path.insert(0, {bench!r})
import jobs, steps
settings = {settings!r}
study = jobs.trainer(pathlib.Path({folder!r}), pathlib.Path({images!r}), settings)
one = steps.Steps(study, is_head=True)
print(json.dumps([[1e3 * run({num}) / {num} for run in (one.looped, one.bare)] for _ in range({rounds})]))
"""


def measured(setup: Setup, num_replicas: int) -> list[list[float]]:
    """Returns [ours, bare] in milliseconds a step, of each round."""
    import photographs

    settings = [*photographs.settings(setup, image_px=64, is_live=False), "data.near_duplicates=false"]
    settings += ["train.strategy=mirrored", f"train.replicas={num_replicas}"] if num_replicas > 1 else []
    folder = setup.folder / f"replicas-{num_replicas}"
    program = _PROGRAM.format(
        bench=str(room.ROOT / "scripts" / "bench"),
        settings=settings,
        folder=str(folder),
        images=str(photographs.folder(setup, num=80)),
        num=setup.size(20, 200),
        rounds=setup.size(2, 5),
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=room.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(setup: Setup) -> list[Row]:
    numbers = setup.size((1, 2), REPLICAS)
    by_number = turns.interleaved({str(num): partial(measured, setup, num) for num in numbers}, repeats=1)
    rows = []
    for num in numbers:
        (rounds,) = by_number[str(num)]
        ours, bare = (tuple(each) for each in zip(*rounds, strict=True))
        own = sorted((a - b) / num for a, b in zip(ours, bare, strict=True))[len(ours) // 2]
        name = f"a step on {num} replica{'s' * (num > 1)}"
        rows.append(Row("replicas", name, "ms", ours, bare, None, f"the loop's own: {own:.2f} ms a replica"))
    return rows


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
