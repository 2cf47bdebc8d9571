"""From config, backbone and number of images to the numbers of a training."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from job import config as configs
from job.config import AugmentConfig, FinetuneConfig, PhaseConfig
from job.errors import ConfigError
from job.model import backbones
from job.training import recipe as recipes
from job.training import recipe_text
from job.training.recipe import Phase, Recipe

ROW = backbones.get("mobilenet_v2")
NUM_TRAIN = 1000

PHASE_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    # setting: (value, the numbers of the phase that it decides)
    "images": ("640", {"num_steps": 20, "eval_steps": 20, "warmup_steps": 10}),
    "epochs": ("2", {"num_steps": 63, "eval_steps": 32, "warmup_steps": 10}),
    "patience": ("2", {"patience_steps": 63}),
    "optimizer": ("sgd", {"optimizer": "sgd"}),
    "learning_rate": ("0.5", {"learning_rate": 0.5}),
    "warmup": ("0", {"warmup_steps": 0}),
    "weight_decay": ("0.25", {"weight_decay": 0.25}),
    "layer_decay": ("0.5", {"layer_decay": 0.5}),
    "clip_norm": ("3", {"clip_norm": 3.0}),
    "ema": ("0.5", {"ema": 0.5}),
    "views": ("7", {"views": 7}),
    "unfreeze": ("0.9", {"unfreeze": 0.9}),
    "batchnorm": ("trained", {"batchnorm": "trained"}),
}
AUGMENT_SETTINGS = {"flip": False, "crop_scale": 0.9, "color": 0.7, "mixup": 0.3, "cutmix": 0.6, "randaugment": 9}


def resolve(*overrides: str, num_train: int = NUM_TRAIN, num_classes: int = 5) -> Recipe:
    return recipes.resolve(configs.load(None, overrides), ROW, num_train=num_train, num_classes=num_classes)


def phase(recipe: Recipe, name: str) -> Phase:
    return next(phase for phase in recipe.phases if phase.name == name)


def test_fast_is_the_probe_alone() -> None:
    assert resolve("train.preset=fast").phases == ()


@pytest.mark.parametrize("preset", ["balanced", "best"])
def test_the_other_presets_train_the_head_and_then_finetune(preset: str) -> None:
    assert [phase.name for phase in resolve(f"train.preset={preset}").phases] == ["head", "finetune"]


def test_a_phase_can_be_switched_off_or_added_to_any_preset() -> None:
    assert [phase.name for phase in resolve("train.head.enabled=false").phases] == ["finetune"]
    assert [phase.name for phase in resolve("train.preset=fast", "train.head.enabled=true").phases] == ["head"]


def test_balanced_fine_tunes_for_eight_epochs_on_cached_views() -> None:
    head, finetune = resolve(num_train=640).phases
    assert (head.unfreeze, head.views) == (0.0, 1)
    assert (finetune.num_steps, finetune.views) == (160, 2)


def test_every_setting_of_a_phase_is_covered_here() -> None:
    assert set(PHASE_SETTINGS) | {"enabled"} == set(FinetuneConfig.model_fields)
    assert set(AUGMENT_SETTINGS) == set(AugmentConfig.model_fields)


@pytest.mark.parametrize(
    ("name", "setting"),
    [("finetune", setting) for setting in PHASE_SETTINGS]
    + [("head", setting) for setting in PHASE_SETTINGS if setting in PhaseConfig.model_fields],
)
def test_a_number_of_a_phase_set_by_itself_changes_nothing_else(name: str, setting: str) -> None:
    value, decides = PHASE_SETTINGS[setting]
    # An optimizer with weight decay, and its rate given: another optimizer would bring another rate.
    common = [f"train.{name}.optimizer=adamw", f"train.{name}.learning_rate=0.001"]
    before, after = resolve(*common), resolve(*common, f"train.{name}.{setting}={value}")
    assert asdict(phase(after, name)) == {**asdict(phase(before, name)), **decides}
    other = "finetune" if name == "head" else "head"
    assert phase(after, other) == phase(before, other)


@pytest.mark.parametrize("setting", AUGMENT_SETTINGS)
def test_a_number_of_the_augmentation_set_by_itself_changes_nothing_else(setting: str) -> None:
    value = AUGMENT_SETTINGS[setting]
    before, after = resolve("train.preset=best"), resolve("train.preset=best", f"augment.{setting}={value}".lower())
    assert asdict(after.augmentation) == {**asdict(before.augmentation), setting: value}
    assert after.phases == before.phases


def test_batch_micro_batches_smoothing_and_dropout_can_be_set() -> None:
    recipe = resolve("train.batch=7", "train.accumulate=3", "train.label_smoothing=0.25", "model.dropout=0.5")
    assert (recipe.batch, recipe.accumulate, recipe.label_smoothing, recipe.dropout) == (7, 3, 0.25, 0.5)


def test_a_budget_counts_images_whatever_the_batch() -> None:
    for batch in (1, 16, 100):
        steps = phase(resolve("train.finetune.images=6400", f"train.batch={batch}"), "finetune").num_steps
        assert steps * batch == 6400


def test_the_images_of_a_budget_win_over_its_epochs() -> None:
    recipe = resolve("train.finetune.images=320", "train.finetune.epochs=50", "train.batch=32")
    assert phase(recipe, "finetune").num_steps == 10


@pytest.mark.parametrize(("num_train", "images"), [(100, 128_000), (10_000, 600_000), (1_000_000, 2_500_000)])
def test_best_shows_sixty_images_an_image_within_its_bounds(num_train: int, images: int) -> None:
    recipe = resolve("train.preset=best", num_train=num_train)
    assert 0 <= phase(recipe, "finetune").num_steps * recipe.batch - images < recipe.batch


@pytest.mark.parametrize(
    ("optimizer", "factor"), [("sgd", 4.0), ("adamw", 2.0), ("adam", 2.0)], ids=["sgd-linearly", "adamw", "adam"]
)
def test_learning_rates_scale_with_the_batch(optimizer: str, factor: float) -> None:
    at = {
        batch: phase(resolve(f"train.batch={batch}", f"train.finetune.optimizer={optimizer}"), "finetune").learning_rate
        for batch in (64, 256)
    }
    assert at[256] == pytest.approx(factor * at[64])


@pytest.mark.parametrize(("num_train", "share"), [(999, 1 / 3), (1_000, 0.5), (19_999, 0.5), (20_000, 1.0)])
def test_best_unfreezes_more_of_the_backbone_the_more_images_there_are(num_train: int, share: float) -> None:
    recipe = resolve("train.preset=best", num_train=num_train)
    assert phase(recipe, "finetune").unfreeze == share


def test_one_image_still_makes_a_step() -> None:
    for one in resolve(num_train=1).phases:
        assert one.num_steps >= one.eval_steps >= 1
        assert one.patience_steps >= 1
        assert one.warmup_steps <= one.num_steps // 2


@pytest.mark.parametrize("preset", ["balanced", "best"])
@pytest.mark.parametrize("num_train", [500, 50_000])
def test_no_phase_is_given_up_in_the_first_half_of_its_budget(preset: str, num_train: int) -> None:
    for one in resolve(f"train.preset={preset}", num_train=num_train).phases:
        assert one.patience_steps >= one.num_steps / 2
    asked = resolve(f"train.preset={preset}", "train.finetune.patience=2", num_train=num_train)
    assert phase(asked, "finetune").patience_steps == math.ceil(2 * num_train / asked.batch)


def test_two_classes_are_not_smoothed_unless_asked_for() -> None:
    assert resolve(num_classes=2).label_smoothing == 0.0
    assert resolve("train.label_smoothing=0.2", num_classes=2).label_smoothing == 0.2


def test_adam_has_no_weight_decay() -> None:
    assert phase(resolve("train.finetune.optimizer=adam"), "finetune").weight_decay == 0.0
    with pytest.raises(ConfigError, match=r"train\.head\.weight_decay is 0\.1, but Adam has none") as caught:
        resolve("train.head.weight_decay=0.1")
    assert "train.head.optimizer=adamw" in caught.value.next_step


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixing_and_cached_views_contradict_each_other(mix: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.finetune\.views is 3, but augment\.mixup and") as caught:
        resolve("train.finetune.views=3", f"augment.{mix}=0.2")
    assert "train.finetune.views=0" in caught.value.next_step


def test_mixing_alone_turns_the_presets_cached_views_off() -> None:
    assert phase(resolve(), "finetune").views > 0
    recipe = resolve("augment.mixup=0.2")
    assert phase(recipe, "finetune").views == 0
    assert recipe.augmentation.mixes


def test_the_description_lists_every_number() -> None:
    settings = ("augment.mixup=0.31", "augment.cutmix=0.41", "augment.randaugment=7", "train.label_smoothing=0.17")
    tuned = "train.finetune."
    numbers = ("learning_rate=0.00123", "weight_decay=0.0456", "layer_decay=0.789", "clip_norm=2.5", "ema=0.987")
    recipe = resolve("train.preset=best", "model.dropout=0.19", *settings, *(tuned + number for number in numbers))
    probe, augmentation, head, finetune = recipe_text.describe(recipe, uncached={})
    assert probe.startswith("probe")
    for part in ("flip on", "35%", "color 0.3", "MixUp 0.31", "CutMix 0.41", "RandAugment 7"):
        assert part in augmentation
    assert head.startswith("head: head alone")
    parts = ("0.0012", "0.0456", "0.789", "clip 2.5", "EMA 0.987", "smoothing 0.17", "dropout 0.19", "adamw", "frozen")
    for part in (*parts, "augmented afresh", f"at most {phase(recipe, 'finetune').num_steps} steps of 64 images"):
        assert part in finetune


def test_the_description_says_what_the_images_of_a_phase_are() -> None:
    recipe = resolve("train.finetune.views=3")
    *_, head, finetune = recipe_text.describe(recipe, uncached={})
    assert "on the cached plain view" in head
    assert "3 cached views, the first plain" in finetune
    *_, head, finetune = recipe_text.describe(recipe, uncached={"finetune": "no room"})
    assert "on the cached plain view" in head
    assert "augmented afresh (no room)" in finetune
    assert "cached" not in finetune
