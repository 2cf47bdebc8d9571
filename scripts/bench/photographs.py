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


def large(setup: Setup, *, num: int, px: int = 448) -> Path:
    """Returns a folder of class folders of drawn photographs, of 448 px about 40 KB each, no two alike.

    Of what data sets hold, ImageNet's photographs have about such a size.
    """
    import numpy as np
    from PIL import Image

    from job.demo import images

    made = setup.folder / f"large-{px}-{num}"
    if not made.exists():
        rng = np.random.default_rng(0)
        drawn = [np.asarray(images.render(name, 0, seed=0, size_px=px)) for name in images.CLASSES]
        for number in range(num):
            place = number % len(drawn)
            folder = made / images.CLASSES[place]
            folder.mkdir(parents=True, exist_ok=True)
            # Another corner of an endless picture, mirrored by half and half: another picture for every hash.
            pixels = np.roll(drawn[place], rng.integers(0, px, 2), axis=(0, 1))[:: rng.choice([-1, 1])]
            noise = rng.integers(-24, 25, (14, 14, 3)).repeat(-(-px // 14), axis=0).repeat(-(-px // 14), axis=1)
            shown = np.clip(pixels + noise[:px, :px], 0, 255).astype(np.uint8)
            Image.fromarray(shown).save(folder / f"{number:05d}.jpg", quality=90)
    return made
