"""Tiny images and datasets, drawn with numpy and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]
MakeFolder = Callable[..., Path]


def _encoded(
    seed: int = 0, *, size: tuple[int, int] = (24, 16), form: str = "PNG", mode: str = "RGB", **how: Any
) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    image = Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    image.save(out, form, **how)
    return out.getvalue()


@pytest.fixture
def encoded() -> Encode:
    """(seed, size=(24, 16), form="PNG", mode="RGB", **Pillow's save) → an image file's bytes."""
    return _encoded


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """("cat/1.png", "dog/1.png", …) → a folder with a different image under each name."""

    def make(*names: str, root: str = "data") -> Path:
        for seed, name in enumerate(names):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_encoded(seed, form="JPEG" if path.suffix == ".jpg" else "PNG"))
        return tmp_path / root

    return make
