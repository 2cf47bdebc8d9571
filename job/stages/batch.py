"""`train.batch: auto`: the largest global batch that the GPUs hold, found once and kept with the run.

The batch of step s is a pure function of (seed, s) and of the batch size: a restart, and every machine, must have the
same. On a processor there is no limit to find, as memory that does not suffice is swapped: there it is the preset's.
"""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

from job import rundir
from job.config import Config
from job.dataset.example import Split
from job.dataset.prepare import Dataset
from job.errors import ConfigError
from job.stages import backbone as backbones
from job.stages.together import Machines
from job.training import batch_search
from job.training import recipe as recipes
from job.training.batch_search import Spec, Trials
from job.workspace import Workspace


def settled(workspace: Workspace, machines: Machines, dataset: Dataset) -> Config:
    """Returns the run's config with a number in place of `train.batch: auto`: the chief's, on every machine.

    Raises:
        ConfigError: When not even one image a replica fits.
    """
    config = workspace.config
    if config.train.batch != "auto":
        return config
    # Before the strategy is made, which takes memory of the GPUs.
    batch = _remembered_or_found(workspace, dataset) if workspace.cluster.is_chief else 0
    if workspace.cluster.num_workers > 1:
        batch = int(machines.distribution.from_chief(str(batch)))
    return config.model_copy(update={"train": config.train.model_copy(update={"batch": batch})})


def _remembered_or_found(workspace: Workspace, dataset: Dataset) -> int:
    if workspace.output.stat(rundir.BATCH) is not None:
        return int(json.loads(workspace.output.read(rundir.BATCH))["batch"])
    gpus = tf.config.list_physical_devices("GPU")
    tried: dict[int, bool] = {}
    if gpus:
        # One machine's share is tried on that machine; all are taken to be alike.
        batch, tried = _found(workspace, dataset, num_gpus=len(gpus))
        batch *= workspace.cluster.num_workers
    else:
        batch = recipes.PRESETS[workspace.config.train.preset].batch
    where = f"the largest that fits {len(gpus)} GPU(s)" if gpus else "the preset's, as there is no GPU"
    workspace.console.info(f"train.batch is auto: {batch}, {where}.", batch=batch)
    facts = {"batch": batch, "gpus": len(gpus), "tried": {str(size): fits for size, fits in sorted(tried.items())}}
    if workspace.is_run:
        workspace.write(rundir.BATCH, json.dumps(facts, indent=2) + "\n")
    return batch


def _found(workspace: Workspace, dataset: Dataset, *, num_gpus: int) -> tuple[int, dict[int, bool]]:
    """Returns the batch of this machine, and which ones were tried."""
    train, num_workers = workspace.config.train, workspace.cluster.num_workers
    num_replicas = 1 if train.strategy == "single" else train.replicas or num_gpus
    num_train, unit = len(dataset.indices(Split.TRAIN)), num_replicas * train.accumulate
    preset = recipes.PRESETS[train.preset].batch
    with (
        workspace.timings.stage("batch"),
        workspace.bar("batch", unit="trials") as bar,
        Trials(spec_of(workspace, dataset)) as trials,
    ):

        def fits(batch: int) -> bool:
            does = trials(batch)
            workspace.watched(bar, "batch")(len(trials.tried), len(trials.tried) + 1)
            return does

        found = batch_search.largest(
            fits,
            first=max(preset // num_workers // unit, 1) * unit,
            unit=unit,
            most=max(num_train // batch_search.LEAST_STEPS_AN_EPOCH, preset) // num_workers // unit * unit or unit,
        )
    if found is None:
        raise ConfigError(
            f"train.batch is auto, but not even {unit} image(s) fit {num_replicas} GPU(s).",
            next_step="Choose a smaller model.backbone or data.image_px, unfreeze less (train.finetune.unfreeze), or "
            "set train.precision=bfloat16.",
        )
    return found, trials.tried


def spec_of(workspace: Workspace, dataset: Dataset) -> Spec:
    """Returns what a child process needs to know to try a batch of this run."""
    num_train = len(dataset.indices(Split.TRAIN))
    known = np.union1d(dataset.indices(Split.TRAIN), dataset.indices(Split.VALIDATION))
    path = backbones.resolve(workspace).path
    return Spec(
        config=workspace.config.model_dump(mode="json"),
        backbone_path=str(path) if path else None,
        num_train=num_train,
        num_known=len(known),
        num_classes=len(dataset.classes),
    )
