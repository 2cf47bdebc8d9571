"""Several machines, as threads, that prepare one dataset of a bucket; and what they fetch of it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from job import config as configs
from job.console import JsonConsole
from job.dataset.example import Verdict
from job.dataset.prepare import Dataset
from job.dataset.shares import Share
from job.interruption import Stop
from job.platforms import Platform
from job.stages import prepare
from job.workspace import Workspace
from tests.meeting import Meeting

T = TypeVar("T")
NUM = 12
COLORS = {"blue": (40, 40, 200), "red": (200, 40, 40)}
SHARDS = (5, 2, 9, 1, 7)
"""Records in each."""


class Fetched:
    """The objects whose content was asked for, in turn."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        if method == "GET" and "alt=media" in target:
            self.names.append(unquote(urlsplit(target).path.partition("/o/")[2]))

    def times(self, suffix: str) -> Counter[str]:
        return Counter(name for name in self.names if name.endswith(suffix))


def png(seed: int, color: tuple[int, int, int]) -> bytes:
    pixels = np.clip(np.array(color) + np.random.default_rng(seed).normal(0, 40, (20, 24, 3)), 0, 255)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def workspace(work: Path, uri: str) -> Workspace:
    given = {"data.uri": uri, "output": "gs://runs/1", "work_dir": str(work), "data.image_px": 16, "data.max_bad": 0.5}
    given |= {"model.backbone": "mobilenet_025", "model.weights": "none", "data.near_duplicates": False}
    given |= {"data.layout": "jsonl"} if uri.endswith("managed") else {}
    return Workspace.open(configs.load(values=given), Platform("laptop"), JsonConsole(io.StringIO()), Stop())


def together(folder: Path, uri: str, num: int = 2) -> list[Dataset]:
    """Returns what each of so many machines gets, each with a disk of its own."""
    return on_each(num, lambda share: prepare.dataset(workspace(folder / str(share.worker), uri), share))


def on_each(num: int, work: Callable[[Share], T]) -> list[T]:
    with ThreadPoolExecutor(num) as pool:
        return list(pool.map(work, Meeting(num).shares))


def here(folder: Path, pattern: str = "*.png") -> set[str]:
    """Returns the names of such files on a machine's disk."""
    return {path.name for path in folder.glob(f"datasets/**/{pattern}") if path.is_file()}


def usable(dataset: Dataset) -> np.ndarray:
    return np.array([row.index for row in dataset.rows if row.verdict is Verdict.OK], np.int64)


def assert_same(datasets: list[Dataset], alone: Dataset) -> None:
    """Asserts that each machine has every row, and pixels and files of all images, of its share or not."""
    wanted = usable(alone)
    for dataset in datasets:
        assert dataset.rows == alone.rows
        assert dataset.summary == alone.summary
        np.testing.assert_array_equal(dataset.pixels.gather(wanted), alone.pixels.gather(wanted))
        # The export's proof reads original files.
        assert [dataset.encoded(row) for row in wanted] == [alone.encoded(row) for row in wanted]
