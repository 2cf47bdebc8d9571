"""From config, backbone and number of images to numbers."""

from __future__ import annotations

import pytest

from job import config
from job.errors import ConfigError
from job.model import backbones
from job.training import recipe
from job.training.recipe import Recipe

ROW = backbones.get("mobilenet_v2")


def _resolve(*overrides: str, num_train: int = 640, num_classes: int = 5) -> Recipe:
    return recipe.resolve(config.load(None, list(overrides)), ROW, num_train=num_train, num_classes=num_classes)


def test_fast_has_no_phase_but_the_probe() -> None:
    assert _resolve("train.preset=fast").phases == ()


def test_balanced_fine_tunes_for_ten_epochs_on_cached_views() -> None:
    head, finetune = _resolve().phases
    assert (head.name, head.unfreeze, head.views) == ("head", 0.0, 1)
    assert (finetune.name, finetune.num_steps, finetune.views) == ("finetune", 200, 4)


@pytest.mark.parametrize(("num_train", "images"), [(100, 128_000), (10_000, 600_000), (10**6, 2_500_000)])
def test_best_counts_images_seen_within_bounds(num_train: int, images: int) -> None:
    resolved = _resolve("train.preset=best", num_train=num_train)
    assert resolved.phases[1].num_steps * resolved.batch == pytest.approx(images, abs=resolved.batch)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0.5),
        ("weight_decay", 0.25),
        ("layer_decay", 0.5),
        ("clip_norm", 3.0),
        ("ema", 0.5),
        ("views", 2),
        ("optimizer", "sgd"),
    ],
)
@pytest.mark.parametrize("phase", ["head", "finetune"])
def test_every_number_can_be_set_by_itself(phase: str, setting: str, value: object) -> None:
    changed = _resolve(f"train.{phase}.{setting}={value}")
    plain = _resolve()
    index = ("head", "finetune").index(phase)
    assert getattr(changed.phases[index], setting) == value
    assert changed.phases[1 - index] == plain.phases[1 - index]


def test_budgets_can_be_images_or_epochs_and_images_win() -> None:
    resolved = _resolve("train.head.epochs=2", "train.finetune.epochs=9", "train.finetune.images=64")
    assert [phase.num_steps for phase in resolved.phases] == [40, 2]


def test_a_phase_can_be_switched_on_and_off() -> None:
    assert [phase.name for phase in _resolve("train.preset=fast", "train.head.enabled=true").phases] == ["head"]
    assert [phase.name for phase in _resolve("train.head.enabled=false").phases] == ["finetune"]


def test_rates_scale_with_the_batch_by_its_root_for_adam_and_linearly_for_sgd() -> None:
    def rate(batch: int, optimizer: str) -> float:
        settings = [f"train.batch={batch}", f"train.finetune.optimizer={optimizer}"]
        return _resolve(*settings).phases[1].learning_rate

    assert rate(256, "adamw") == pytest.approx(2 * rate(64, "adamw"))
    assert rate(256, "sgd") == pytest.approx(4 * rate(64, "sgd"))


def test_two_classes_are_not_smoothed() -> None:
    assert _resolve(num_classes=2).label_smoothing == 0.0
    assert _resolve("train.label_smoothing=0.2", num_classes=2).label_smoothing == 0.2


def test_mixing_needs_fresh_images() -> None:
    assert _resolve("augment.mixup=0.2").phases[1].views == 0
    with pytest.raises(ConfigError, match=r"train\.finetune\.views is 4.*augment\.mixup"):
        _resolve("augment.mixup=0.2", "train.finetune.views=4")


def test_more_images_unfreeze_more_blocks() -> None:
    shares = [recipe.unfreeze_share(num) for num in (500, 5_000, 50_000)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_recipe_is_told_line_by_line() -> None:
    text = "\n".join(recipe.describe(_resolve()))
    for part in ("probe", "head alone", "4 cached view(s)", "flip on", "adamw", "label smoothing 0.1"):
        assert part in text
