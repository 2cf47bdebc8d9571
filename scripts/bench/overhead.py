"""What the loop costs beside a bare `strategy.run` of its step, and checkpoints, logs and mirror beside none of them.

The bare loop runs inside one graph on one batch that is there already: nothing is fetched, checked or counted. Steps
that compute little, as a head's on cached features do, are shown for information: there the loop's own milliseconds are
all there is.
"""

from __future__ import annotations

import itertools
import sys

import jobs
import photographs
import room
import turns
from room import Setup
from rows import Limit, Row
from steps import Steps

CHECKPOINT_S = 5.0
"""Far more often than `checkpoint.every_s`, so that a short run has some."""
_ROUNDS = 60
"""Single rounds lie up to a fifth off however long they are, so there are many short ones."""
_KEPT_ROUNDS = 20
"""Those have to be long enough for a checkpoint."""


def measure(setup: Setup) -> list[Row]:
    images = photographs.folder(setup, num=120)
    px = setup.size(64, 128)
    settings = [*photographs.settings(setup, image_px=px, is_live=False), "data.near_duplicates=false"]
    study = jobs.trainer(setup.folder, images, settings)
    tuned = Steps(study)
    num = setup.size(5, 20)
    found = turns.interleaved(
        {"loop": lambda: tuned.looped(num), "bare": lambda: tuned.bare(num)}, repeats=setup.size(2, _ROUNDS)
    )
    note = f"{study.backbone.name}, top third, batch {jobs.BATCH}, {px} px"
    name, limit = f"{num} steps of a fine-tuning beside a bare loop", Limit("ratio", 1.03)
    rows = [Row("loop", name, "s", found["loop"], found["bare"], limit, note)]
    folders = (setup.folder / f"kept-{number}" for number in itertools.count())
    num = setup.size(8, 60)
    kept = turns.interleaved(
        {
            "with": lambda: tuned.looped(num, folder=next(folders), checkpoint_s=CHECKPOINT_S),
            "without": lambda: tuned.looped(num),
        },
        repeats=setup.size(2, _KEPT_ROUNDS),
    )
    rows.append(
        Row(
            "checkpoints, logs, mirror",
            f"{num} steps beside the same without",
            "s",
            kept["with"],
            kept["without"],
            Limit("ratio", 1.02),
            f"a checkpoint every {CHECKPOINT_S:g} s and at the end, logs every 10 steps, mirrored every 5 s",
        )
    )
    head = Steps(study, is_head=True)
    num = setup.size(50, 500)
    small = turns.interleaved(
        {"loop": lambda: 1e3 * head.looped(num) / num, "bare": lambda: 1e3 * head.bare(num) / num},
        repeats=setup.size(2, 7),
    )
    name = "a step of a head on cached features"
    rows.append(Row("loop", name, "ms", small["loop"], small["bare"], None, "for information"))
    return rows


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
