"""From config + backbone + number of images to the numbers of the training. Pure.

A preset is a row of `PRESETS`; what the config sets wins over the backbone's row, which wins over the
preset. Budgets count images seen, not epochs, because that is what the published recipes hold constant
over data sets (BiT: 500 steps of 512; Kornblith et al. 2019: 20,000 steps of 256).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from job.config import AugmentConfig, Config, FinetuneConfig, PhaseConfig
from job.errors import ConfigError
from job.model.backbones import Backbone

LEARNING_RATE_BATCH = 64
"""The batch the backbones' learning rates are for; they scale with its square root for Adam, linearly
for SGD. Source: Krizhevsky 2014 (arXiv:1404.5997), Goyal et al. 2017 (arXiv:1706.02677); timm's rule."""

MIN_WARMUP_STEPS = 10

LEAST_PATIENCE = 0.5
"""Of a budget. The first sixth of a long fine-tuning was no better than its start (docs/recipes.md)."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes of a training image; see `AugmentConfig` for the meaning of each number."""

    flip: bool
    crop_scale: float
    color: float
    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: int = 0

    @property
    def mixes(self) -> bool:
        """Whether an example takes part of another one."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, slots=True)
class Phase:
    """One training phase in numbers.

    Attributes:
        num_steps: Optimizer steps at most.
        eval_steps: Steps between two looks at the validation split.
        patience_steps: Steps without a better validation loss that end the phase.
        learning_rate: Peak at the top layers, for this global batch.
        layer_decay: Learning-rate factor from one block to the next below.
        clip_norm: Of the gradient of the mean loss; None is off.
        ema: Decay of the averaged weights; 0 is off.
        views: Cached views of each image (the first is the plain one), or 0 to augment afresh.
        unfreeze: Share of the backbone's blocks that train; 0 trains the head alone.
    """

    name: Literal["head", "finetune"]
    num_steps: int
    eval_steps: int
    patience_steps: int
    optimizer: Literal["adamw", "adam", "sgd"]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    layer_decay: float
    clip_norm: float | None
    ema: float
    views: int
    unfreeze: float
    batchnorm: Literal["frozen", "trained"]

    def slowed(self, num_retries: int) -> Phase:
        """Returns the phase at half the learning rate for each time it diverged."""
        return replace(self, learning_rate=self.learning_rate * 0.5**num_retries)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run trains with, all decided."""

    batch: int
    accumulate: int
    dropout: float
    label_smoothing: float
    augmentation: Augmentation
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class PhasePreset:
    """What a preset says of a phase.

    Attributes:
        images: The budget as (per image, at least, at most); None: `epochs`.
        learning_rate: Factor of the backbone's.
    """

    epochs: float
    patience_epochs: float
    images: tuple[int, int, int] | None = None
    ema: float = 0.0
    views: int = 1
    unfreeze: float | None = 0.0
    learning_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Preset:
    batch: int
    label_smoothing: float
    augmentation: Augmentation
    head: PhasePreset | None
    finetune: PhasePreset | None


FROM_PROBE = 0.1
"""The head's learning rates in the literature are for a head that starts at zero; this one starts at the probe's
optimum, which they would leave (validation accuracy fell from 0.957 to 0.925 in five epochs at the full rate)."""

PRESETS = {
    # The probe alone: a logistic regression on frozen features (Kornblith et al. 2019, appendix).
    "fast": Preset(32, 0.0, Augmentation(flip=False, crop_scale=1.0, color=0.0), head=None, finetune=None),
    # Linear probe, then fine-tuning (LP-FT: Kumar et al. 2022), on cached views of the frozen trunk.
    "balanced": Preset(
        32,
        0.1,
        Augmentation(flip=True, crop_scale=0.5, color=0.2),
        head=PhasePreset(epochs=10, patience_epochs=5, learning_rate=FROM_PROBE),
        # The first epochs cost accuracy, the falling learning rate of the last ones wins it back and more, hence the
        # patience. Eight epochs are short for the backbones' rates: of the factors 1, 2, 4 and 8, four had the least
        # log loss on validation over two backbones and three seeds, at ten epochs on four views; eight on two take a
        # third less time and ended within noise of that (docs/recipes.md).
        finetune=PhasePreset(epochs=8, patience_epochs=8, views=2, unfreeze=1 / 3, learning_rate=4.0),
    ),
    # Images seen as in BiT's and Kornblith's budgets: 60 an image, within 128 thousand and 2.5 million.
    "best": Preset(
        64,
        0.1,
        Augmentation(flip=True, crop_scale=0.35, color=0.3, randaugment=5),
        head=PhasePreset(epochs=30, patience_epochs=6, learning_rate=FROM_PROBE),
        finetune=PhasePreset(
            epochs=60, patience_epochs=15, images=(60, 128_000, 2_500_000), ema=0.99, views=0, unfreeze=None
        ),
    ),
}


def resolve(config: Config, backbone: Backbone, *, num_train: int, num_classes: int) -> Recipe:
    """Returns the recipe of a run.

    Args:
        backbone: Its row gives learning rates, decay and dropout.
        num_train: Training images, above 0.
        num_classes: K, at least 2.

    Raises:
        ConfigError: When settings contradict each other.
    """
    train = config.train
    preset = PRESETS[train.preset]
    # "auto" is a number by then where there is a limit to find (stages/batch.py).
    batch = train.batch if isinstance(train.batch, int) else preset.batch
    augmentation = _augmentation(preset.augmentation, config.augment)
    # With two classes smoothing only shifts the margin (RECIPES: 0 for binary).
    smoothing = preset.label_smoothing if num_classes > 2 else 0.0
    phases = []
    for name, settings, default in (("head", train.head, preset.head), ("finetune", train.finetune, preset.finetune)):
        enabled = settings.enabled if settings.enabled is not None else default is not None
        if enabled:
            fallback = default or getattr(PRESETS["balanced"], name)
            phases.append(_phase(name, settings, fallback, backbone, augmentation, batch=batch, num_train=num_train))
    return Recipe(
        batch=batch,
        accumulate=train.accumulate,
        dropout=config.model.dropout if config.model.dropout is not None else backbone.dropout,
        label_smoothing=train.label_smoothing if train.label_smoothing is not None else smoothing,
        augmentation=augmentation,
        phases=tuple(phases),
    )


def unfreeze_share(num_train: int) -> float:
    """Returns the share of blocks worth training: a third below 1,000 images, a half below 20,000, all above.

    Source: the size classes of BiT-HyperRule (google-research/big_transfer, bit_hyperrule.py).
    """
    return 1 / 3 if num_train < 1_000 else 0.5 if num_train < 20_000 else 1.0


def _augmentation(preset: Augmentation, config: AugmentConfig) -> Augmentation:
    return replace(preset, **{name: value for name, value in config.model_dump().items() if value is not None})


def _phase(
    name: str,
    settings: PhaseConfig,
    preset: PhasePreset,
    backbone: Backbone,
    augmentation: Augmentation,
    *,
    batch: int,
    num_train: int,
) -> Phase:
    finetune = settings if isinstance(settings, FinetuneConfig) else None
    views = settings.views if settings.views is not None else preset.views
    if augmentation.mixes and views > 0 and finetune:
        if settings.views is not None:
            raise ConfigError(
                f"train.finetune.views is {views}, but augment.mixup and augment.cutmix blend images afresh each step.",
                next_step="Set train.finetune.views=0, or turn MixUp and CutMix off.",
            )
        views = 0
    budget = _budget(settings, preset, num_train)
    patience = max(preset.patience_epochs * num_train, LEAST_PATIENCE * budget)
    num_steps = _steps(budget, batch)
    epoch_steps = _steps(num_train, batch)
    optimizer = settings.optimizer or (backbone.finetune_optimizer if finetune else "adam")
    if optimizer == "adam" and settings.weight_decay:
        raise ConfigError(
            f"train.{name}.weight_decay is {settings.weight_decay:g}, but Adam has none.",
            next_step=f"Set train.{name}.optimizer=adamw, or leave the weight decay out.",
        )
    decay = settings.weight_decay if settings.weight_decay is not None else backbone.weight_decay
    warmup = settings.warmup if settings.warmup is not None else 0.05
    unfreeze = 0.0
    if finetune:
        share = finetune.unfreeze if finetune.unfreeze is not None else preset.unfreeze
        unfreeze = share if share is not None else unfreeze_share(num_train)
    return Phase(
        name="finetune" if finetune else "head",
        num_steps=num_steps,
        eval_steps=min(epoch_steps, num_steps),
        patience_steps=_steps(settings.patience * num_train if settings.patience else patience, batch),
        optimizer=optimizer,
        learning_rate=settings.learning_rate
        or preset.learning_rate * _learning_rate(backbone, optimizer, batch, is_head=finetune is None),
        warmup_steps=min(max(round(warmup * num_steps), MIN_WARMUP_STEPS if warmup else 0), num_steps // 2),
        weight_decay=0.0 if optimizer == "adam" else decay,
        layer_decay=settings.layer_decay or (backbone.layer_decay if finetune else 1.0),
        clip_norm=settings.clip_norm or 1.0,
        ema=settings.ema if settings.ema is not None else preset.ema,
        views=views,
        unfreeze=unfreeze,
        batchnorm=finetune.batchnorm if finetune else "frozen",
    )


def _budget(settings: PhaseConfig, preset: PhasePreset, num_train: int) -> float:
    """Images seen."""
    if settings.images is not None:
        return settings.images
    if settings.epochs is not None:
        return settings.epochs * num_train
    if preset.images is not None:
        per_image, least, most = preset.images
        return min(max(per_image * num_train, least), most)
    return preset.epochs * num_train


def _learning_rate(backbone: Backbone, optimizer: str, batch: int, *, is_head: bool) -> float:
    peak = backbone.head_learning_rate if is_head else backbone.finetune_learning_rate
    ratio = batch / LEARNING_RATE_BATCH
    return peak * (ratio if optimizer == "sgd" else math.sqrt(ratio))


def _steps(images: float, batch: int) -> int:
    return max(1, math.ceil(images / batch))
