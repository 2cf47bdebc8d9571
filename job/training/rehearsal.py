"""A run's own steps and passes on made-up pixels: whether they fit, and how long they take.

Memory and seconds depend on shapes, not on what the pixels show, so neither needs the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from job.config import Config
from job.dataset.feed import NUM_RANDOMS, Batch
from job.model import cut as cuts
from job.model import freezing, graph
from job.model.backbones import Backbone
from job.model.cut import Cut
from job.training.assembly import Assembly, assemble, cut_of, forward_batch
from job.training.distribution import Distribution
from job.training.features import feature_bytes
from job.training.forward import Forward
from job.training.recipe import Phase, Recipe
from job.training.step import as_is
from job.training.views import Views


@dataclass(frozen=True)
class Rehearsal:
    """The parts of a run, none of which is run before it is asked for.

    Attributes:
        model: The whole classifier; its weights move with the steps.
        stored_px: Height and width of the stored images.
        num_known: Images whose frozen features the run keeps: those of training and validation.
    """

    config: Config
    backbone: Backbone
    distribution: Distribution
    model: Any
    recipe: Recipe
    policy: str
    image_px: int
    stored_px: int
    num_known: int

    @property
    def views(self) -> Views:
        return Views(self.config.train.seed, self.image_px, self.recipe.augmentation)

    @property
    def forward_images(self) -> int:
        """Images of a pass without gradients."""
        return forward_batch(self.recipe, self.distribution.num_local)

    def cut(self, phase: Phase) -> Cut:
        return cut_of(self.model, self.backbone, phase)

    def is_whole(self, phase: Phase) -> bool:
        """Whether the phase runs the whole model: nothing is frozen, or what the trunk gives does not fit the disk."""
        cut = self.cut(phase)
        size = feature_bytes(cut, num_examples=self.num_known, num_views=max(phase.views, 1))
        return cut.is_input or size > self.config.data.pack_gb * 1e9

    def is_cached(self, phase: Phase) -> bool:
        """Whether the phase trains on cached features."""
        return phase.views > 0 and not self.is_whole(phase)

    def parts(self, phase: Phase) -> Assembly:
        """Returns what the phase computes with, as the run assembles it; freezes what the phase leaves frozen."""
        cut = self.cut(phase)
        freezing.freeze(self.model, cut, batchnorm=phase.batchnorm)
        is_cached = self.is_cached(phase)
        return assemble(
            self.distribution,
            self.model,
            cuts.split(self.model, cut)[1] if is_cached else self.model,
            cut,
            phase,
            self.recipe,
            self.config.train,
            prepare=as_is if is_cached else self.views.afresh(),
            class_weights=np.ones(self.model.outputs[0].shape[-1], np.float32),
            is_float16=self.policy == "mixed_float16",
        )

    def step(self, phase: Phase, parts: Assembly) -> Callable[[], None]:
        """Returns a function that makes one optimizer step and waits for it; the first call compiles."""
        cut, is_cached, num_classes = self.cut(phase), self.is_cached(phase), self.model.outputs[0].shape[-1]
        inputs = self._features(cut, self.recipe.batch) if is_cached else self.pixels(self.recipe.batch)
        mixes = self.recipe.augmentation.mixes and not is_cached
        indices = np.arange(self.recipe.batch)
        labels = (indices % num_classes).astype(np.int32)
        randoms = self._randoms(self.recipe.batch)
        batch = Batch(
            indices, inputs, inputs if mixes else np.zeros((len(inputs), 0), inputs.dtype), labels, labels, randoms
        )

        def run() -> None:
            float(parts.train_step(batch)["loss"])

        return run

    def look(self, phase: Phase) -> Callable[[], None]:
        """Returns a function that passes one batch as a look at the validation split does."""
        if self.is_whole(phase):
            return self._through(self.model, self.pixels(self.forward_images), prepare=self.views.plain)
        cut = self.cut(phase)
        return self._through(cuts.split(self.model, cut)[1], self._features(cut, self.forward_images))

    def trunk(self, cut: Cut, *, is_augmented: bool = False) -> Callable[[], None]:
        """Returns a function that passes one batch of images up to a cut."""
        trunk, _ = cuts.split(self.model, cut)
        prepare = self.views.augmented if is_augmented else lambda images, _: self.views.plain(images)
        run = Forward.through(self.distribution, trunk, batch=self.forward_images, prepare=prepare)
        return self._pass(run, self.pixels(self.forward_images))

    def between(self, lower: Cut, upper: Cut) -> Callable[[], None]:
        """Returns a function that passes one batch of features at one cut on to a higher one."""
        nodes = graph.nodes(self.model)
        part = keras.Model(nodes[lower.index].outputs[0], nodes[upper.index].outputs[0])
        return self._through(part, self._features(lower, self.forward_images))

    def pixels(self, num: int) -> np.ndarray:
        """Returns uint8 [num, S, S, 3], the same noise every time."""
        shape = (num, self.stored_px, self.stored_px, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def _features(self, cut: Cut, num: int) -> np.ndarray:
        return np.random.default_rng(0).random((num, *cut.shape), dtype=np.float32)

    def _randoms(self, num: int) -> np.ndarray:
        return np.random.default_rng(1).random((num, NUM_RANDOMS), dtype=np.float32)

    def _through(
        self, model: Any, inputs: np.ndarray, *, prepare: Callable[[Any], Any] | None = None
    ) -> Callable[[], None]:
        # As Study does: the whole model takes images that were made plain before.
        prepared = np.asarray(prepare(inputs)) if prepare else inputs
        return self._pass(Forward.through(self.distribution, model, batch=self.forward_images), prepared)

    def _pass(self, forward: Forward, inputs: np.ndarray) -> Callable[[], None]:
        indices, randoms = np.arange(len(inputs)), self._randoms(len(inputs))

        def run() -> None:
            for _ in forward(lambda part: inputs[part], indices, lambda part: randoms[part]):
                pass

        return run
