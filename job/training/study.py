"""The candidates of a run: probe, head, fine-tune, each from the best so far, each on frozen work done once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from job.config import Config
from job.dataset.example import Split
from job.dataset.feed import Feed, Fetch
from job.dataset.prepare import Dataset
from job.errors import DivergedError
from job.evaluation.calibration import calibrated_log_loss
from job.model import cut as cuts
from job.model import freezing
from job.model.backbones import Backbone
from job.model.cut import Cut
from job.training import probe, recipe_text
from job.training.assembly import assemble, cut_of
from job.training.checkpoint import Checkpoints
from job.training.class_weights import class_weights
from job.training.distribution import Distribution
from job.training.features import FeatureCache, Features, feature_bytes
from job.training.forward import Forward
from job.training.loop import Loop, Task
from job.training.progress import Progress, Trained, Weights
from job.training.recipe import Phase, Recipe
from job.training.spans import steps_at_once
from job.training.step import as_is
from job.training.telemetry import NUM_SAMPLE_IMAGES, Telemetry
from job.training.views import Views
from job.workspace import Workspace

PROBE = "probe"


@dataclass
class Study:
    """Trains the candidates of one run.

    Attributes:
        model: The whole classifier, pretrained; left with the weights of whatever was applied last.
        batch: Images a forward pass without gradients.
        policy: The Keras dtype policy of the model.
        notes: What the training did beyond its recipe, for the report.
    """

    workspace: Workspace
    recipe: Recipe
    backbone: Backbone
    distribution: Distribution
    model: Any
    dataset: Dataset
    views: Views
    cache: FeatureCache
    checkpoints: Checkpoints
    telemetry: Telemetry
    batch: int
    policy: str

    def __post_init__(self) -> None:
        self._config: Config = self.workspace.config
        self._saved: Path | None = None
        self.notes: list[str] = []
        self._pretrained = [variable.numpy() for variable in self.model.variables]
        self._position = {id(variable): position for position, variable in enumerate(self.model.variables)}
        self._train = self.dataset.indices(Split.TRAIN)
        self._val = self.dataset.indices(Split.VALIDATION)
        self._known = np.union1d(self._train, self._val)
        self._val_labels = self.dataset.labels[self._val]
        self._class_weights = class_weights(
            self.dataset.labels[self._train], len(self.dataset.classes), self._config.train.class_weights
        )

    @property
    def _head(self) -> Any:
        return self.model.get_layer(cuts.LOGITS)

    @property
    def compute_dtype(self) -> str:
        return self.policy.removeprefix("mixed_")

    def run(self) -> Progress:
        """Trains what is not trained yet and returns all candidates, the probe first."""
        progress = self._resumed()
        if not progress.has(PROBE):
            progress = self._probed(progress)
        stop, timings = self.workspace.stop, self.workspace.timings
        loop = Loop(self.checkpoints, self.telemetry, stop, self._config.checkpoint, timings)
        for phase in self.recipe.phases:
            while not progress.has(phase.name):
                try:
                    self._train_phase(phase, progress, loop)
                except DivergedError as error:
                    progress = self._retried(phase, progress, error)
        self.checkpoints.wait()
        self.notes = [f"{name} diverged once and began again at half the learning rate" for name in progress.retries]
        return progress

    def _resumed(self) -> Progress:
        """Returns the progress of the chief's newest checkpoint, the same on every worker."""
        name = self.checkpoints.newest()
        if self.distribution.num_workers > 1:
            self.checkpoints.wait()  # the others fetch it from the output
        name = self.distribution.from_chief(name)
        self._saved = self.checkpoints.fetch(name) if name else None
        if self._saved is None:
            return Progress()
        self.workspace.console.info(f"Going on from checkpoint {name}.", checkpoint=name)
        return Progress.load(self._saved)

    def _probed(self, progress: Progress) -> Progress:
        """Returns the progress with the probe, which the chief fits and the other workers take from it."""
        with self.workspace.timings.stage("features", num_images=len(self._known)):
            pooled = self._plain_features(cuts.features_cut(self.model))
        if self.distribution.is_chief:
            progress.finished.append(self._probe(pooled))
            progress.num_steps[PROBE] = 0
            self.checkpoints.save(progress, None)
        if self.distribution.num_workers == 1:
            return progress
        self.checkpoints.wait()
        return self._resumed()

    def _retried(self, phase: Phase, diverged: Progress, error: DivergedError) -> Progress:
        """Returns the progress of the last checkpoint, with which a phase that diverged once begins again, slower.

        Raises:
            DivergedError: The one given, where `train.on_divergence` does not ask for it or it was tried before.
        """
        if self._config.train.on_divergence != "retry" or diverged.retries.get(phase.name):
            raise error
        self.checkpoints.wait()
        progress = self._resumed()
        progress.retries = {**diverged.retries, phase.name: 1}
        self.workspace.console.warn(
            f"{error.message}. Tried once more from step {progress.step if progress.phase == phase.name else 0} of "
            f"{phase.name} at half the learning rate.",
            images=error.images,
        )
        return progress

    def apply(self, weights: Weights) -> None:
        """Sets the model to the pretrained weights with `weights` on top."""
        for position, variable in enumerate(self.model.variables):
            variable.assign(weights.get(position, self._pretrained[position]))

    def logits(
        self, indices: np.ndarray, *, on_progress: Callable[[int, int], None] | None = None, together: bool = False
    ) -> np.ndarray:
        """Returns float32 [M, K] of the plain images `indices` [M]; where all workers ask `together`, by shares."""
        # By way of the features: that pass is compiled where the probe needed it.
        to_features = self.cache.images_to(cuts.features_cut(self.model))
        run = to_features.shared if together else to_features.all
        features = run(self.dataset.pixels.gather, indices, on_progress=on_progress)
        return np.asarray(features @ self._head.kernel.numpy() + self._head.bias.numpy())

    def describe(self) -> list[str]:
        """Returns the recipe as lines for people, as this run carries it out."""
        reasons = {phase.name: self._why_uncached(phase, self._cut(phase)) for phase in self.recipe.phases}
        return recipe_text.describe(self.recipe, uncached={name: why for name, why in reasons.items() if why})

    def _probe(self, pooled: Features) -> Trained:
        with (
            self.workspace.timings.stage(PROBE, num_images=len(self._train)),
            self.workspace.bar(PROBE, unit="strengths") as bar,
        ):
            found = probe.fit(
                pooled.plain(self._train),
                self.dataset.labels[self._train],
                pooled.plain(self._val),
                self._val_labels,
                num_classes=len(self.dataset.classes),
                class_weights=self._class_weights,
                score=calibrated_log_loss,
                on_progress=self.workspace.watched(bar, PROBE),
            )
        head = self._head
        weights = {self._position[id(head.kernel)]: found.kernel, self._position[id(head.bias)]: found.bias}
        return Trained(PROBE, 0, weights, pooled.plain(self._val) @ found.kernel + found.bias)

    def _plain_features(self, cut: Cut) -> Features:
        """Returns the plain view of training and validation images at a cut.

        By way of the cut that the fine-tuning will ask for: one forward pass serves both.
        """
        lower = next((self._cut(phase) for phase in self.recipe.phases if phase.unfreeze), None)
        for name, at in (("trunk", lower), ("features", cut)):
            if (
                at is not None
                and not at.is_input
                and at.index <= cut.index
                # The features themselves are asked for whatever they take.
                and (at is cut or self.cache.fits(at, num_examples=len(self._known), num_views=1))
            ):
                with self.workspace.bar(name, unit="images") as bar:
                    found = self.cache.plain(at, self._known, on_progress=self.workspace.watched(bar, name))
        return found

    def _cut(self, phase: Phase) -> Cut:
        return cut_of(self.model, self.backbone, phase)

    def _train_phase(self, phase: Phase, progress: Progress, loop: Loop) -> None:
        best = min(progress.finished, key=lambda trained: calibrated_log_loss(trained.val_logits, self._val_labels))
        self.apply(best.weights)
        cut = self._cut(phase)
        freezing.freeze(self.model, cut, batchnorm=phase.batchnorm)
        task = self._task(phase.slowed(progress.retries.get(phase.name, 0)), cut)
        if self.distribution.is_chief:
            first = task.feed.indices(0)[0][:NUM_SAMPLE_IMAGES]
            self.telemetry.images("augmented", self.views.shown(self.dataset.pixels.gather(first), first))
        before, timings = progress.total_steps, self.workspace.timings
        with timings.stage(phase.name), self.workspace.bar(phase.name, unit="images") as bar:
            try:
                loop.run(task, progress, self._saved, bar)
            finally:
                timings.num_images[phase.name] += (progress.total_steps - before) * self.recipe.batch

    def _task(self, phase: Phase, cut: Cut) -> Task:
        with self.workspace.timings.stage("features"):
            top, val_fetch, cached = self._frozen(phase, cut)
        fetch: Fetch = cached.fetch if cached else lambda indices, _: self.dataset.pixels.gather(indices)
        net = top if cached else self.model
        mixes = self.recipe.augmentation.mixes and not cached
        parts = assemble(
            self.distribution,
            self.model,
            net,
            cut,
            phase,
            self.recipe,
            self._config.train,
            prepare=as_is if cached else self.views.afresh(),
            class_weights=self._class_weights,
            is_float16=self.compute_dtype == "float16",
            at_once=self._steps_at_once(phase, cut) if cached else 1,
        )
        forward = Forward.through(self.distribution, top, batch=self.batch)
        return Task(
            phase=phase,
            net=net,
            optimizer=parts.optimizer,
            variables=parts.variables,
            train_step=parts.train_step,
            feed=Feed(
                self._train,
                self.dataset.labels,
                fetch,
                batch=self.recipe.batch,
                seed=self._config.train.seed,
                mixes=mixes,
                fed=self.distribution.fed(self.recipe.batch),
            ),
            snapshot=lambda: self._snapshot(net),
            val_logits=lambda: forward.shared(val_fetch, self._val),
            val_labels=self._val_labels,
            val_loss=calibrated_log_loss,
            names=lambda indices: [self.dataset.rows[int(index)].uri for index in indices],
            is_shared=self.distribution.num_workers > 1,
        )

    def _frozen(self, phase: Phase, cut: Cut) -> tuple[Any, Callable[[np.ndarray], np.ndarray], Features | None]:
        """Returns (what lies above the cut, what validation feeds it, the cached training features or None)."""
        if self._is_whole(phase, cut):
            return self.model, lambda indices: np.asarray(self.views.plain(self.dataset.pixels.gather(indices))), None
        _, top = cuts.split(self.model, cut)
        plain = self._plain_features(cut)
        if not phase.views:
            return top, plain.plain, None
        self.workspace.timings.num_images["features"] += (phase.views - 1) * len(self._train)
        with self.workspace.bar("views", unit="images") as bar:
            watched = self.workspace.watched(bar, "views")
            cached = self.cache.views(cut, plain, self._train, num_views=phase.views, on_progress=watched)
        return top, plain.plain, cached

    def _steps_at_once(self, phase: Phase, cut: Cut) -> int:
        # The profiler's marks are of single steps.
        is_profiled = phase.name == "finetune" and self._config.telemetry.profile_steps is not None
        return 1 if is_profiled else steps_at_once(feature_bytes(cut, num_examples=self.recipe.batch, num_views=1))

    def _is_whole(self, phase: Phase, cut: Cut) -> bool:
        """Whether the phase runs the whole model: nothing is frozen, or what the trunk gives does not fit."""
        num = len(self._known)
        return cut.is_input or not self.cache.fits(cut, num_examples=num, num_views=max(phase.views, 1))

    def _why_uncached(self, phase: Phase, cut: Cut) -> str | None:
        if not phase.views or not self._is_whole(phase, cut):
            return None
        if cut.is_input:
            return "nothing is frozen"
        return f"{phase.views} cached view(s) would take more than data.pack_gb={self._config.data.pack_gb:g}"

    def _snapshot(self, net: Any) -> Weights:
        """Returns the values of all that `net` may have changed, the statistics of a trained BatchNorm included."""
        changed = [variable for layer in net.layers if layer.trainable for variable in layer.variables]
        return {self._position[id(v)]: v.numpy() for v in changed if id(v) in self._position}
