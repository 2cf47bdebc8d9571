"""How a recipe reads: shown before training, kept in the report and in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

from job.training.recipe import Phase, Recipe


def describe(recipe: Recipe, *, uncached: Mapping[str, str]) -> list[str]:
    """Returns the recipe as lines for people; shown before training and kept in the report.

    Args:
        uncached: Phase → why its views are not cached, for those that the recipe has views for and the run no cache.
    """
    a = recipe.augmentation
    lines = [
        "probe: logistic regression (L-BFGS) on the frozen features",
        f"augmentation: flip {'on' if a.flip else 'off'}, crop from {a.crop_scale:.0%} of the area, color {a.color:g}, "
        f"MixUp {a.mixup:g}, CutMix {a.cutmix:g}, RandAugment {a.randaugment}",
    ]
    for phase in recipe.phases:
        what = "head alone" if not phase.unfreeze else f"top {phase.unfreeze:.0%} of the blocks"
        lines.append(
            f"{phase.name}: {what}, {_source(phase, uncached.get(phase.name))}, at most {phase.num_steps} steps of "
            f"{recipe.batch} images, {phase.optimizer} at {phase.learning_rate:.2g} (layer decay "
            f"{phase.layer_decay:g}, weight decay {phase.weight_decay:g}, clip {phase.clip_norm or 'off'}, EMA "
            f"{phase.ema or 'off'}), label smoothing {recipe.label_smoothing:g}, dropout {recipe.dropout:g}, "
            f"BatchNorm {phase.batchnorm}, stops after {phase.patience_steps} steps without gain"
        )
    return lines


def _source(phase: Phase, why_uncached: str | None) -> str:
    if why_uncached is not None:
        return f"augmented afresh ({why_uncached})"
    if phase.views == 0:
        return "augmented afresh"
    return "on the cached plain view" if phase.views == 1 else f"{phase.views} cached views, the first plain"
