"""Frozen work is done once: what a trunk gives for each (image, view), kept in memory-mapped files.

In epoch e an image shows view (e + index) mod V, so every epoch mixes all views and each is seen equally
often. One file a (cut, view), its marker written last: a restart goes on with the first that is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from job.training.distribution import Distribution
from job.training.forward import Forward, Progress
from job.training.views import Views


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
    ) -> None:
        self._model = model
        self._pixels = pixels
        self._distribution = distribution
        self._views = views
        self._folder = folder
        self._batch = batch
        self._budget_bytes = budget_bytes
        self._key = f"{key} {_digest(model)} {views}"
        self._plain: dict[Cut, View] = {}

    def fits(self, cut: Cut, *, num_examples: int, num_views: int) -> bool:
        """Whether the features stay within the disk budget."""
        return int(np.prod(cut.shape)) * 4 * num_examples * num_views <= self._budget_bytes

    def plain(self, cut: Cut, examples: np.ndarray, *, on_progress: Progress | None = None) -> Features:
        """Returns the plain view of `examples` at a cut, from the nearest lower cut already held."""
        lower = max((held for held in self._plain if held.index < cut.index), key=lambda held: held.index, default=None)
        if lower is None:
            trunk, _ = cuts.split(self._model, cut)
            forward = self._forward(lambda images, _: (trunk(self._views.plain(images), training=False),))
            fetch: Callable[[np.ndarray], np.ndarray] = self._pixels.gather
        else:
            nodes = graph.nodes(self._model)
            between = keras.Model(nodes[lower.index].outputs[0], nodes[cut.index].outputs[0])
            forward = self._forward(lambda inputs, _: (between(inputs, training=False),))
            fetch = self._plain[lower].fetch
        view = self._view(cut, 0, forward, fetch, examples, None, on_progress)
        self._plain[cut] = view
        return Features([view])

    def views(
        self, cut: Cut, plain: Features, examples: np.ndarray, *, num_views: int, on_progress: Progress | None = None
    ) -> Features:
        """Returns `plain` with num_views - 1 augmented views of `examples` beside it."""
        trunk, _ = cuts.split(self._model, cut)
        forward = self._forward(
            lambda images, randoms: (trunk(self._views.augmented(images, randoms), training=False),)
        )
        found = list(plain.views)
        for number in range(1, num_views):

            def progress(done: int, total: int, before: int = (number - 1) * len(examples)) -> None:
                if on_progress:
                    on_progress(before + done, (num_views - 1) * len(examples))

            randoms = self._views.randoms(number)
            found.append(self._view(cut, number, forward, self._pixels.gather, examples, randoms, progress))
        return Features(found)

    def _forward(self, function: Callable[[Any, Any], tuple[Any, ...]]) -> Forward:
        return Forward(self._distribution, function, batch=self._batch)

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
        marker = path.with_suffix(".json")
        shape = (len(examples), *cut.shape)
        rows_digest = hashlib.sha256(examples.tobytes()).hexdigest()
        wanted = {"key": self._key, "shape": list(shape), "examples": rows_digest}
        if marker.is_file() and json.loads(marker.read_text()) == wanted:
            return View(row, np.load(path, mmap_mode="r"))
        marker.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for rows, (values,) in forward(fetch, examples, randoms, on_progress=on_progress):
            array[rows] = values
        array.flush()
        temporary = marker.with_suffix(".tmp")
        temporary.write_text(json.dumps(wanted))
        os.replace(temporary, marker)
        return View(row, array)


def _digest(model: Any) -> str:
    """Returns a digest of the backbone's weights: the head is no part of any feature."""
    head = {id(variable) for variable in model.get_layer("logits").variables}
    found = hashlib.sha256()
    for variable in model.variables:
        if id(variable) not in head:
            found.update(variable.numpy().tobytes())
    return found.hexdigest()
