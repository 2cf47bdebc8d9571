"""Measures what a plan is made of: the survey itself, some steps and passes of each phase, and the whole ending.

The parts are the run's own, so what makes the run slower makes its plan slower. The data is pulled, surveyed and packed
where the run would look for it; everything else happens in a folder of its own, which is removed, and nothing is
written to the output.
"""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from job.config import Config
from job.console import Console
from job.dataset.example import Split, Verdict
from job.dataset.pack import pack_bytes
from job.dataset.prepare import Dataset
from job.errors import UsageError
from job.evaluation.calibration import calibrated_log_loss
from job.interruption import Stop
from job.model import cut as cuts
from job.planning.estimate import Pace, Plan, StageEstimate
from job.platforms import Platform
from job.stages import backbone, deliver, export, measure, prepare, pull, train
from job.stages.together import Machines
from job.storage import at
from job.timings import Timings
from job.training import probe
from job.training.checkpoint import state_of
from job.training.features import feature_bytes
from job.training.progress import Progress, Trained
from job.training.recipe import Phase
from job.training.rehearsal import Rehearsal
from job.training.study import Study
from job.workspace import Workspace

MIN_TIMES, MAX_TIMES, FOR_S = 3, 100, 3.0
"""A piece of work is repeated until both the least number and the seconds are reached."""

FEW_IMAGES = 256
"""Test images on which the ending is rehearsed; more of them take what a pass of theirs takes."""

MANY_FEATURES = 5_000
"""Made-up examples that the probe is fitted on at most; its passes over more take proportionally longer."""


def plan(config: Config, platform: Platform, console: Console, stop: Stop, *, start_s: float) -> Plan:
    """Returns what a run of `config` will take.

    Args:
        start_s: Seconds that starting up took.

    Raises:
        UsageError: On one of several machines.
        JobError: What a run would end with before its training.
    """
    workspace = Workspace.open(config, platform, console, stop, is_run=False)
    if workspace.cluster.num_workers > 1:
        raise UsageError(
            f"finetune plan measures one machine, but TF_CONFIG names {workspace.cluster.num_workers}.",
            next_step="Unset TF_CONFIG, or set train.strategy=auto on one of the machines.",
        )
    backbone.resolve(workspace)
    backbone.pretrained(workspace)
    dataset = prepare.survey(workspace, pull.dataset(workspace))
    workspace.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=workspace.folder) as folder:
        aside = replace(
            workspace, output=at(f"{folder}/output"), folder=Path(folder) / "run", timings=Timings(), is_run=False
        )
        study = train.trainer(aside, Machines(aside), dataset)
        return _Planner(workspace, aside, dataset, study).plan(start_s)


@dataclass
class _Planner:
    workspace: Workspace
    aside: Workspace
    dataset: Dataset
    study: Study
    stages: list[StageEstimate] = field(default_factory=list)

    def __post_init__(self) -> None:
        study, config = self.study, self.workspace.config
        self.num_train, self.num_val, self.num_test = (
            len(self.dataset.indices(split)) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
        )
        self.known = self.num_train + self.num_val
        self.stored_px = config.data.stored_px or study.views.image_px
        self.rehearsal = Rehearsal(
            config=config,
            backbone=study.backbone,
            distribution=study.distribution,
            model=study.model,
            recipe=study.recipe,
            policy=study.policy,
            image_px=study.views.image_px,
            stored_px=self.stored_px,
            num_known=self.known,
        )
        self.checkpoint_bytes = 0
        self.feature_bytes = 0

    def plan(self, start_s: float) -> Plan:
        self.stages.append(StageEstimate("start", host_s=start_s))
        for name in ("pull", "unpack", "survey"):
            if (seconds := self.workspace.timings.seconds.get(name)) is not None:
                num = self.workspace.timings.num_images.get(name, 0)
                self.stages.append(
                    StageEstimate(name, host_s=seconds, num_images=num, memory_bytes=_peak_bytes(), is_done=True)
                )
        self.stages.append(
            StageEstimate("build", host_s=self.aside.timings.seconds["build"], memory_bytes=_peak_bytes())
        )
        self._features()
        self._probe()
        for phase in self.study.recipe.phases:
            self._phase(phase)
        self._ending()
        distribution, config = self.study.distribution, self.workspace.config
        training_s = math.fsum(stage.device_s for stage in self.stages)
        return Plan(
            devices=distribution.describe(),
            measured_on=distribution.num_replicas,
            batch=self.study.recipe.batch,
            stages=self.stages,
            num_checkpoints=1 + len(self.study.recipe.phases) + math.floor(training_s / config.checkpoint.every_s),
            checkpoint_bytes=self.checkpoint_bytes,
            disk_bytes={
                "data": _folder_bytes(self.workspace.data_dir),
                "packed images": _packed_bytes(len(self.dataset.rows), self.stored_px, config.data.pack_gb),
                "features": self.feature_bytes,
                "checkpoints": self.checkpoint_bytes * (config.checkpoint.keep + 1),
                "export": _folder_bytes(self.aside.folder / "export"),
            },
        )

    def _features(self) -> None:
        """The passes of the frozen trunk: the plain view of all, the other views of the training images."""
        rehearsal, recipe = self.rehearsal, self.study.recipe
        top = cuts.features_cut(self.study.model)
        cached = [(phase, rehearsal.cut(phase)) for phase in recipe.phases if phase.unfreeze]
        lower = next(
            (cut for _, cut in cached if self.study.cache.fits(cut, num_examples=self.known, num_views=1)), top
        )
        lower = top if lower.is_input else lower
        num = self._passes(self.known)
        device_s = self._pace(rehearsal.trunk(lower)).of(num)
        self.feature_bytes = feature_bytes(top, num_examples=self.known, num_views=1)
        if lower is not top:
            device_s += self._pace(rehearsal.between(lower, top)).of(num)
            self.feature_bytes += feature_bytes(lower, num_examples=self.known, num_views=1)
        num_images = self.known
        for phase, cut in cached:
            if phase.views > 1 and rehearsal.is_cached(phase):
                pace = self._pace(rehearsal.trunk(cut, is_augmented=True))
                device_s += pace.of((phase.views - 1) * self._passes(self.num_train))
                num_images += (phase.views - 1) * self.num_train
                self.feature_bytes += feature_bytes(cut, num_examples=self.num_train, num_views=phase.views - 1)
        self._add("features", device_s=device_s, num_images=num_images)

    def _probe(self) -> None:
        num_classes = len(self.dataset.classes)
        num, num_val = min(self.num_train, MANY_FEATURES), min(self.num_val, MANY_FEATURES)
        rng = np.random.default_rng(0)
        width = math.prod(cuts.features_cut(self.study.model).shape)
        centres = rng.normal(size=(num_classes, width)).astype(np.float32)

        def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
            labels = (np.arange(count) % num_classes).astype(np.int32)
            return centres[labels] + 3 * rng.normal(size=(count, width)).astype(np.float32), labels

        start_s = time.monotonic()
        probe.fit(
            *examples(num),
            *examples(num_val),
            num_classes=num_classes,
            class_weights=np.ones(num_classes, np.float32),
            score=calibrated_log_loss,
        )
        seconds = (time.monotonic() - start_s) * self.num_train / num
        self._add("probe", host_s=seconds, num_images=self.num_train)

    def _phase(self, phase: Phase) -> None:
        rehearsal, recipe = self.rehearsal, self.study.recipe
        _forget_peak()
        parts = rehearsal.parts(phase)
        step = self._pace(rehearsal.step(phase, parts))
        num_looks = 1 + -(-phase.num_steps // phase.eval_steps)
        looks_s = self._pace(rehearsal.look(phase)).of(num_looks * self._passes(self.num_val))
        state = math.fsum(_num_bytes(one) for one in state_of(parts.net, parts.optimizer).values())
        trained = sum(_num_bytes(one) for one in parts.variables)
        # The state of the moment, the best moment, and the phases that are finished.
        self.checkpoint_bytes = max(self.checkpoint_bytes, int(state) + 3 * trained)
        host_s = 0.0
        if phase.unfreeze and recipe.batch >= 4 * self.study.distribution.num_replicas:
            # A quarter of the images takes more than a quarter of the time by what a step costs whatever its images.
            small = replace(rehearsal, recipe=replace(recipe, batch=recipe.batch // 4))
            quarter = self._pace(small.step(phase, small.parts(phase)))
            host_s = min(max((4 * quarter.next_s - step.next_s) / 3, 0.0), step.next_s)
        self._add(
            phase.name,
            device_s=step.of(phase.num_steps) + looks_s,
            num_images=phase.num_steps * recipe.batch,
            num_steps=phase.num_steps,
            step_host_s=host_s,
            gradient_bytes=trained,
        )

    def _ending(self) -> None:
        """The winner, evaluation, export, proof and report: the run's own, on few test images and made-up results."""
        workspace, study, dataset = self.aside, self.study, _with_few_test_images(self.dataset)
        rng = np.random.default_rng(0)
        shape = (self.num_val, len(dataset.classes))
        names = ["probe", *(phase.name for phase in study.recipe.phases)]
        progress = Progress([Trained(name, 0, {}, rng.normal(size=shape).astype(np.float32)) for name in names])
        before_s, began_s = dict(workspace.timings.seconds), time.monotonic()
        choice = measure.winner(workspace, dataset, study, progress)
        measured = measure.on_test_split(workspace, dataset, study, choice)
        proof = export.proven(workspace, dataset, study, choice)
        deliver.report(workspace, dataset, study, choice, measured, proof)
        took_s = time.monotonic() - began_s
        seconds = {
            name: workspace.timings.seconds[name] - before_s.get(name, 0.0) for name in workspace.timings.seconds
        }
        num_more = self._passes(self.num_test) - self._passes(len(measured.indices))
        more_s = num_more * self._pace(self.rehearsal.trunk(cuts.features_cut(study.model))).next_s if num_more else 0.0
        evaluated_s = seconds.get("evaluate", 0.0)
        self._add("evaluate", host_s=evaluated_s, device_s=more_s, num_images=self.num_test)
        for name in ("export", "prove"):
            self._add(name, host_s=seconds[name])
        self._add("report", host_s=max(took_s - evaluated_s - seconds["export"] - seconds["prove"], 0.0))

    def _add(self, name: str, **figures: float) -> None:
        self.stages.append(StageEstimate(name, memory_bytes=_peak_bytes(), **figures))  # type: ignore[arg-type]  # counts
        self.workspace.console.info(f"{name}: measured.")
        self.workspace.stop.check("plan")

    def _passes(self, num_images: int) -> int:
        return -(-num_images // self.rehearsal.forward_images)

    def _pace(self, run: Callable[[], None]) -> Pace:
        start_s = time.monotonic()
        run()
        first_s, began_s, num = time.monotonic() - start_s, time.monotonic(), 0
        while num < MIN_TIMES or (num < MAX_TIMES and time.monotonic() - began_s < FOR_S):
            run()
            self.workspace.stop.check("plan")
            num += 1
        # The mean, not the median: a run takes the slow ones as well.
        return Pace(first_s, (time.monotonic() - began_s) / num)


def _with_few_test_images(dataset: Dataset) -> Dataset:
    few = set(dataset.indices(Split.TEST)[:FEW_IMAGES])
    rows = [
        replace(row, split=None)
        if row.split is Split.TEST and row.verdict is Verdict.OK and row.index not in few
        else row
        for row in dataset.rows
    ]
    return replace(dataset, rows=tuple(rows))


def _peak_bytes() -> int:
    """Returns the most memory held so far, of the first GPU since the last `_forget_peak` or else of this process."""
    if tf.config.list_logical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    if tf.config.list_logical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")


def _num_bytes(variable: object) -> int:
    return math.prod(variable.shape) * 4  # type: ignore[attr-defined]  # a Keras variable; all are kept in float32


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _packed_bytes(num_images: int, stored_px: int, budget_gb: float) -> int:
    size = pack_bytes(num_images, stored_px)
    return size if size <= budget_gb * 1e9 else 0
