"""Frozen work is done once: what a trunk gives for each (image, view), kept in memory-mapped files.

In epoch e an image shows view (e + index) mod V, so every epoch mixes all views and each is seen equally
often. One file a (cut, view), its marker written last; until then a note beside it says how many rows are right, and
a restart goes on behind them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from job.dataset.pack import Pixels
from job.model import cut as cuts
from job.model import graph
from job.model.cut import Cut
from job.storage import disk
from job.training.distribution import Distribution, share_rows
from job.training.forward import Forward, Progress
from job.training.views import Views

NOTE_EVERY_S = 10.0
"""Seconds of features that a kill may cost."""


@dataclass(frozen=True)
class View:
    """One view of some examples.

    Attributes:
        row: int64, row of the dataset → row of `values`, -1 where it is not held.
        values: float32 [M, ...], memory-mapped.
    """

    row: np.ndarray
    values: np.ndarray

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        """Returns float32 [B, ...]."""
        return np.asarray(self.values[self.row[indices]])


@dataclass(frozen=True)
class Features:
    """Features of the same examples in V views, the plain one first."""

    views: Sequence[View]

    def plain(self, indices: np.ndarray) -> np.ndarray:
        """Returns float32 [B, ...]: the plain view."""
        return self.views[0].fetch(indices)

    def fetch(self, indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Returns float32 [B, ...]: the view that each example shows in its epoch."""
        which = (epochs + indices) % len(self.views)
        found = np.empty((len(indices), *self.views[0].values.shape[1:]), np.float32)
        for number, view in enumerate(self.views):
            shown = which == number
            found[shown] = view.fetch(indices[shown])
        return found


def feature_bytes(cut: Cut, *, num_examples: int, num_views: int) -> int:
    """Returns the disk that features at a cut take, bytes."""
    return math.prod(cut.shape) * 4 * num_examples * num_views


class FeatureCache:
    """Features at any cut of one frozen model, each computed at most once.

    Args:
        model: The whole classifier; what lies below a cut must not change while the cache lives.
        pixels: Of the dataset.
        folder: Of the files.
        batch: Images a forward pass.
        budget_bytes: Disk for one set of features.
        key: Names the dataset and the settings; the weights are added to it.
    """

    def __init__(
        self,
        model: Any,
        pixels: Pixels,
        distribution: Distribution,
        views: Views,
        *,
        folder: Path,
        batch: int,
        budget_bytes: float,
        key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._pixels = pixels
        self._distribution = distribution
        self._views = views
        self._folder = folder
        self._batch = batch
        self._budget_bytes = budget_bytes
        self._key = f"{key} {_digest(model)} {views}"
        self._clock = clock
        self._plain: dict[Cut, View] = {}
        self._passes: dict[Cut, Forward] = {}

    def images_to(self, cut: Cut) -> Forward:
        """Returns the pass from plain images to a cut; it computes with the weights that the model has by then."""
        if cut not in self._passes:
            trunk, _ = cuts.split(self._model, cut)
            self._passes[cut] = self._through(trunk, lambda images, _: self._views.plain(images))
        return self._passes[cut]

    def fits(self, cut: Cut, *, num_examples: int, num_views: int) -> bool:
        """Whether the features stay within the disk budget."""
        return feature_bytes(cut, num_examples=num_examples, num_views=num_views) <= self._budget_bytes

    def plain(self, cut: Cut, examples: np.ndarray, *, on_progress: Progress | None = None) -> Features:
        """Returns the plain view of `examples` at a cut, from the nearest lower cut already held."""
        lower = max((held for held in self._plain if held.index < cut.index), key=lambda held: held.index, default=None)
        if lower is None:
            forward = self.images_to(cut)
            fetch: Callable[[np.ndarray], np.ndarray] = self._pixels.gather
        else:
            nodes = graph.nodes(self._model)
            forward = self._through(keras.Model(nodes[lower.index].outputs[0], nodes[cut.index].outputs[0]))
            fetch = self._plain[lower].fetch
        view = self._view(cut, 0, forward, fetch, examples, None, on_progress)
        self._plain[cut] = view
        return Features([view])

    def views(
        self, cut: Cut, plain: Features, examples: np.ndarray, *, num_views: int, on_progress: Progress | None = None
    ) -> Features:
        """Returns `plain` with num_views - 1 augmented views of `examples` beside it."""
        trunk, _ = cuts.split(self._model, cut)
        forward = self._through(trunk, self._views.augmented)
        found = list(plain.views)
        for number in range(1, num_views):

            def progress(done: int, total: int, before: int = (number - 1) * len(examples)) -> None:
                if on_progress:
                    on_progress(before + done, (num_views - 1) * len(examples))

            randoms = self._views.randoms(number)
            found.append(self._view(cut, number, forward, self._pixels.gather, examples, randoms, progress))
        return Features(found)

    def _through(self, model: Any, prepare: Callable[[Any, Any], Any] | None = None) -> Forward:
        return Forward.through(self._distribution, model, batch=self._batch, prepare=prepare)

    def _view(
        self,
        cut: Cut,
        number: int,
        forward: Forward,
        fetch: Callable[[np.ndarray], np.ndarray],
        examples: np.ndarray,
        randoms: Callable[[np.ndarray], np.ndarray] | None,
        on_progress: Progress | None,
    ) -> View:
        """Returns one view from its file where that is whole and was made under the same key; else computes it."""
        row = np.full(int(examples.max()) + 1, -1, np.int64)
        row[examples] = np.arange(len(examples))
        path = self._folder / f"cut-{cut.index}-view-{number}.npy"
        marker, note = path.with_suffix(".json"), path.with_suffix(".partial.json")
        shape = (len(examples), *cut.shape)
        rows_digest = hashlib.sha256(examples.tobytes()).hexdigest()
        wanted = {"key": self._key, "shape": list(shape), "examples": rows_digest}
        # Another number of workers has other shares.
        noted_as = {**wanted, "workers": self._distribution.num_workers}
        num_rows = share_rows(len(examples), self._distribution.num_workers)
        noted = _read(note)
        done = noted.pop("rows", 0)
        if _read(marker) == wanted:
            done = num_rows
        elif noted != noted_as or not path.is_file():
            done = 0
        # All workers go on behind the same rows; one that was started elsewhere has none.
        first = self._distribution.least(done)
        if first == num_rows:
            return View(row, np.load(path, mmap_mode="r"))
        marker.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not done:
            _reserve(path, shape)
        array = np.lib.format.open_memmap(path, mode="r+")
        done, noted_s = first, self._clock()
        try:
            for end, parts in forward.in_shares(fetch, examples, randoms, first=first, on_progress=on_progress):
                for rows, values in parts:
                    array[rows] = values
                done = end
                if self._clock() - noted_s >= NOTE_EVERY_S:
                    array.flush()
                    _write(note, {**noted_as, "rows": done})
                    noted_s = self._clock()
        finally:
            array.flush()
            _write(note, {**noted_as, "rows": done})
        _write(marker, wanted)
        note.unlink()
        return View(row, array)


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Makes the file with all of its space: writing to a mapped file on a full disk would kill the process.

    Raises:
        TemporaryError: When there is no space for it; nothing is left.
    """
    path.unlink(missing_ok=True)  # what another dataset or model left here counts as free
    with disk.filling(path, math.prod(shape) * 4):
        try:
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    except (FileNotFoundError, ValueError):
        return {}


def _write(path: Path, facts: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts))
    os.replace(temporary, path)


def _digest(model: Any) -> str:
    """Returns a digest of the backbone's weights: the head is no part of any feature."""
    head = {id(variable) for variable in model.get_layer("logits").variables}
    found = hashlib.sha256()
    for variable in model.variables:
        if id(variable) not in head:
            found.update(variable.numpy().tobytes())
    return found.hexdigest()
