"""`finetune predict` beside one bare forward pass: files from the disk through the exported model, predictions out.

The bare pass gets pixels that are decoded and in memory; predicting reads, decodes and fits every file besides, reading
ahead in threads while the model works.
"""

from __future__ import annotations

import sys

import frozen
import jobs
import numpy as np
import photographs
import room
import turns
from room import Setup
from rows import Limit, Row

from job.export import inference, saved_model
from job.export.inference import Image
from job.export.saved_model import Geometry


def measure(setup: Setup) -> list[Row]:
    px = setup.size(64, 160)
    folder = photographs.folder(setup, num=setup.size(60, 480))
    study = jobs.trainer(setup.folder, folder, photographs.settings(setup, image_px=px, is_live=False))
    to = setup.folder / "export" / "1"
    geometry = Geometry(study.workspace.config.data.fit, px, px)
    saved_model.write(study.model, classes=study.dataset.classes, temperature=1.0, geometry=geometry, to=to)
    classifier = inference.load(to)
    files = sorted(folder.rglob("*.jpg"))
    images = [Image(str(path), path.read_bytes) for path in files]

    def ours() -> float:
        with turns.watch() as took:
            found = list(inference.predict(classifier, images))
        assert len(found) == len(images)
        assert not [one for one in found if one.error]
        return took.seconds

    ours()  # the first call of a loaded model compiles it
    pixels = study.dataset.pixels.gather(np.arange(len(study.dataset.rows)))
    bare = min(
        (frozen.bare_pass(study, pixels, batch) for batch in setup.size((32,), (16, 32, 64, 128))), key=turns.seconds
    )
    found = turns.interleaved({"ours": ours, "bare": lambda: turns.seconds(bare)}, repeats=setup.size(2, 5))
    return [
        Row(
            "predict",
            "beside a bare pass over decoded pixels",
            "images/s",
            turns.rates(len(images), found["ours"]),
            turns.rates(len(pixels), found["bare"]),
            Limit("ratio", 0.9, at_least=True),
            f"{study.backbone.name}, {len(images)} JPEG files, {px} px",
        )
    ]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
