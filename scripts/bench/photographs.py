"""The images and the backbone that rooms measure with: the given ones, or drawn ones with what the demo ships."""

from __future__ import annotations

from pathlib import Path

import room
from room import Setup

DEMO_WEIGHTS = room.ROOT / "job" / "demo" / "backbone.weights.h5"


def folder(setup: Setup, *, num: int) -> Path:
    """Returns a folder of class folders: the given training photographs, or about `num` drawn ones."""
    if setup.data is not None:
        return setup.data / "train"
    from job.demo import images

    made = setup.folder / "drawn"
    if not made.exists():
        per_class = max(4, num // len(images.CLASSES))
        for name in images.CLASSES:
            (made / name).mkdir(parents=True)
            for index in range(per_class):
                (made / name / f"{index:04d}.jpg").write_bytes(images.encode(name, index, seed=0))
    return made


def settings(setup: Setup, *, image_px: int) -> list[str]:
    """Returns the settings of the backbone: MobileNetV2 with WEIGHTS, else the demo's small one with its own."""
    is_given = setup.weights is not None
    return [
        f"model.backbone={'mobilenet_v2' if is_given else 'mobilenet_025'}",
        f"model.weights={setup.weights if is_given else DEMO_WEIGHTS}",
        f"data.image_px={image_px}",
    ]
