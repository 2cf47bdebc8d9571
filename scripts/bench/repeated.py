"""A small set of images, repeated under new names to a data set of any size; no two files are equal."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from job.dataset.example import Example, Row, Verdict

NUM_CLASSES = 10
_DISTINCT = 64


@dataclass(frozen=True)
class Reader:
    """Gives the file of an example; its number, behind the end of the PNG, makes it a file of its own."""

    files: tuple[bytes, ...]

    def read(self, uri: str) -> bytes:
        return self.files[int(uri) % len(self.files)] + uri.encode()

    def stamp(self, uri: str) -> str:
        return uri


def reader(px: int) -> Reader:
    rng, files = np.random.default_rng(0), []
    for _ in range(_DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (px, px, 3), np.uint8)).save(buffer, "PNG", compress_level=1)
        files.append(buffer.getvalue())
    return Reader(tuple(files))


def examples(num: int) -> list[Example]:
    return [Example(str(number), f"class-{number % NUM_CLASSES}") for number in range(num)]


def rows(num: int) -> Iterator[Row]:
    """Yields what a survey would say of `num` images, without the survey."""
    for number in range(num):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        label = f"class-{number % NUM_CLASSES}"
        yield Row(number, f"{label}/{number:07d}.jpg", label, None, Verdict.OK, "", "", digest, 500, 375, 40_000)
