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


def settings(setup: Setup, *, image_px: int, is_live: bool = True) -> list[str]:
    """Returns the settings of the backbone: MobileNetV2 with WEIGHTS, or what stands in for it.

    Args:
        is_live: Whether accuracies and losses matter: then the demo's small backbone with its own weights, else an
            untrained MobileNetV2, whose features say nothing and whose passes take as long as a trained one's.
    """
    if setup.weights is not None:
        name, weights = "mobilenet_v2", str(setup.weights)
    elif is_live:
        name, weights = "mobilenet_025", str(DEMO_WEIGHTS)
    else:
        name, weights = setup.size("mobilenet_025", "mobilenet_v2"), "none"
    return [f"model.backbone={name}", f"model.weights={weights}", f"data.image_px={image_px}"]
