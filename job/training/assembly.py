"""What a phase trains: the net above its cut, the variables that move, and the step; the run's and a rehearsal's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from job.config import TrainConfig
from job.model import cut as cuts
from job.model import freezing
from job.model.backbones import Backbone
from job.model.cut import Cut
from job.training import optimizer as optimizers
from job.training.distribution import Distribution
from job.training.recipe import Phase, Recipe
from job.training.step import Prepare, TrainStep


@dataclass(frozen=True)
class Assembly:
    """The parts of a phase that compute.

    Attributes:
        net: Keras model that the step trains, from prepared inputs to logits.
        variables: The trainable ones, as the optimizer was built over.
    """

    net: Any
    optimizer: Any
    variables: list[Any]
    train_step: TrainStep


def cut_of(model: Any, backbone: Backbone, phase: Phase) -> Cut:
    """Returns the boundary below which the phase leaves the model frozen."""
    if not phase.unfreeze:
        return cuts.features_cut(model)
    return cuts.cut_for_share(model, backbone, phase.unfreeze)


def assemble(
    distribution: Distribution,
    model: Any,
    net: Any,
    cut: Cut,
    phase: Phase,
    recipe: Recipe,
    config: TrainConfig,
    *,
    prepare: Prepare,
    class_weights: np.ndarray,
    is_float16: bool,
    at_once: int = 1,
) -> Assembly:
    """Returns the phase's step on `net`, the whole model or what lies above the cut; freezing was done by then.

    Args:
        class_weights: float32 [K].
        at_once: Most steps of a call.
    """
    groups = freezing.layer_groups(model, cut)
    variables = [variable for group in groups for variable in group]
    with distribution.strategy.scope():
        optimizer = optimizers.build(phase, groups, is_float16=is_float16)
    step = TrainStep(
        distribution,
        net,
        optimizer,
        variables,
        prepare=prepare,
        class_weights=class_weights,
        label_smoothing=recipe.label_smoothing,
        clip_norm=phase.clip_norm,
        accumulate=recipe.accumulate,
        xla=config.xla,
        is_float16=is_float16,
        at_once=at_once,
    )
    return Assembly(net, optimizer, variables, step)


FORWARD_FACTOR = 2
"""Images of a forward pass without gradients for each one of a training step: it keeps no activations."""


def forward_batch(recipe: Recipe, num_local: int) -> int:
    """Returns the images of a forward pass over this machine's replicas."""
    return max(recipe.batch // recipe.accumulate, num_local) * FORWARD_FACTOR
