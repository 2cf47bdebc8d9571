"""Decodes the JPEG files that standard input names, one a line, with Pillow; prints the seconds it took.

In as many processes as there are cores; the clock starts behind the imports and before the processes.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence

import turns
from PIL import Image, JpegImagePlugin  # noqa: F401  # Loaded before the processes start, as our workers load theirs.

from job.dataset.cores import num_cores


def decode(path: str) -> int:
    with Image.open(path) as image:
        return image.convert("RGB").size[0]


def decode_all(paths: Sequence[str]) -> None:
    with multiprocessing.get_context("fork").Pool(num_cores()) as pool:
        for _ in pool.imap_unordered(decode, paths, chunksize=16):
            pass


if __name__ == "__main__":
    given = sys.stdin.read().splitlines()
    print(turns.seconds(lambda: decode_all(given)))
