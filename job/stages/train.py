"""From a dataset to trained candidates: strategy, backbone, recipe, and the trainer that holds them."""

from __future__ import annotations

import hashlib

import keras

from job import config as configs
from job.dataset.example import Split
from job.dataset.prepare import Dataset
from job.errors import ConfigError
from job.model import classifier
from job.stages import backbone as backbones
from job.stages import batch as batches
from job.stages.together import Machines
from job.training import distribution as distributions
from job.training import recipe as recipes
from job.training.assembly import forward_batch
from job.training.checkpoint import Checkpoints
from job.training.features import FeatureCache
from job.training.recipe import Recipe
from job.training.study import Study
from job.training.telemetry import Telemetry
from job.training.views import Views
from job.workspace import Workspace


def trainer(workspace: Workspace, machines: Machines, dataset: Dataset) -> Study:
    """Returns everything that training needs, built and shown; nothing is trained yet."""
    config, console = batches.settled(workspace, machines, dataset), workspace.console
    keras.utils.set_random_seed(config.train.seed)
    distribution = machines.distribution
    backbone = backbones.resolve(workspace)
    image_px = config.data.image_px or backbone.native_px
    policy = distributions.policy(config.train)
    num_train = len(dataset.indices(Split.TRAIN))
    recipe = recipes.resolve(config, backbone, num_train=num_train, num_classes=len(dataset.classes))
    _check_shares(recipe, distribution.num_replicas)
    console.info(
        f"Training {backbone.name} at {image_px} px for {len(dataset.classes)} classes on "
        f"{distribution.num_replicas} replica(s) ({distribution.name}, {policy}).",
        replicas=distribution.num_replicas,
    )
    with workspace.timings.stage("build"), distribution.strategy.scope():
        model = classifier.build(
            backbone,
            weights=backbones.pretrained(workspace),
            image_px=image_px,
            num_classes=len(dataset.classes),
            dropout=recipe.dropout,
            seed=config.train.seed,
            policy=policy,
        )
    backbones.remember(workspace)
    telemetry = Telemetry(workspace.logs_dir, config.telemetry, writes=distribution.is_chief)
    telemetry.text("config", f"```yaml\n{configs.to_yaml(config)}\n```")
    views = Views(config.train.seed, image_px, recipe.augmentation)
    batch = forward_batch(recipe, distribution.num_local)
    study = Study(
        workspace=workspace,
        recipe=recipe,
        backbone=backbone,
        distribution=distribution,
        model=model,
        dataset=dataset,
        views=views,
        cache=FeatureCache(
            model,
            dataset.pixels,
            distribution,
            views,
            folder=workspace.cache_dir / "features",
            batch=batch,
            budget_bytes=config.data.pack_gb * 1e9,
            key=_key(dataset, workspace),
        ),
        checkpoints=Checkpoints(
            workspace.folder,
            workspace.output,
            keep=config.checkpoint.keep,
            writes=distribution.is_chief,
            on_error=console.warn,
        ),
        telemetry=telemetry,
        batch=batch,
        policy=policy,
    )
    lines = study.describe()
    for line in lines:
        console.info(f"  {line}")
    telemetry.text("recipe", "\n".join(f"* {line}" for line in lines))
    return study


def _check_shares(recipe: Recipe, num_replicas: int) -> None:
    """Raises ConfigError where a trained BatchNorm would take the padding of a share for images."""
    parts = num_replicas * recipe.accumulate
    if recipe.batch % parts and any(phase.batchnorm == "trained" for phase in recipe.phases):
        raise ConfigError(
            f"train.finetune.batchnorm is trained, but a batch of {recipe.batch} does not divide evenly into {parts} "
            f"parts ({num_replicas} replicas, train.accumulate={recipe.accumulate}): the padding would enter the "
            "statistics.",
            next_step=f"Set train.batch to a multiple of {parts}, or train.finetune.batchnorm=frozen.",
        )


def _key(dataset: Dataset, workspace: Workspace) -> str:
    """Names what the features are of: every image's content and how it was made square."""
    contents = hashlib.sha256("".join(row.sha256 for row in dataset.rows).encode()).hexdigest()
    data = workspace.config.data
    return f"{contents} {data.fit} {data.stored_px} {data.image_px}"
