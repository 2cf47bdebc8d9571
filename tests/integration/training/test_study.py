"""Probe, head and fine-tuning on real files: cached equals uncached, BatchNorm stays, nothing depends on room."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import job.demo
from job import config as configs
from job.console import console
from job.dataset.feed import uniforms
from job.errors import ConfigError, DivergedError
from job.evaluation.calibration import calibrated_log_loss
from job.interruption import Stop
from job.platforms import Platform
from job.stages import measure, prepare, train
from job.stages.together import Machines
from job.training.class_weights import class_weights
from job.training.progress import Progress
from job.training.step import NOT_FINITE, Placed, TrainStep
from job.training.study import Study
from job.versions import versions
from job.workspace import Workspace

COLORS = {"amber": (180, 140, 60), "green": (90, 160, 90), "violet": (130, 90, 160)}
TINY = (
    "model.backbone=mobilenet_025",
    f"model.weights={Path(job.demo.__file__).with_name('backbone.weights.h5')}",
    "model.dropout=0",
    "data.image_px=32",
    "train.batch=10",
    "train.head.epochs=2",
    "train.finetune.epochs=2",
    "train.finetune.learning_rate=0.001",
    "telemetry.every_steps=1",
)
RATE = "train.finetune.learning_rate"
OFF = ("augment.flip=false", "augment.crop_scale=1", "augment.color=0")


@dataclass(frozen=True)
class Ran:
    study: Study
    progress: Progress
    folder: Path
    statistics: list[np.ndarray]

    def curve(self, name: str) -> np.ndarray:
        events = EventAccumulator(str(self.folder / "logs"), size_guidance={"tensors": 0})
        events.Reload()
        return np.array([tf.make_ndarray(event.tensor_proto) for event in events.Tensors(name)])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir()
        for number in range(16):
            pixels = np.clip(np.array(color) + rng.normal(0, 45, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


def statistics(model: object) -> list[np.ndarray]:
    return [v.numpy() for v in model.variables if "moving_" in v.path]  # type: ignore[attr-defined]  # Keras's


def made(images: Path, folder: Path, *overrides: str) -> Study:
    settings = [f"data.uri={images}", f"output={folder / 'out'}", f"work_dir={folder / 'work'}", *TINY, *overrides]
    workspace = Workspace.open(
        configs.load(None, settings), Platform("laptop"), console(io.StringIO()), Stop(grace_s=1000)
    )
    workspace.begin(versions())
    return train.trainer(workspace, Machines(workspace), prepare.dataset(workspace))


def ran(images: Path, folder: Path, *overrides: str) -> Ran:
    trainer = made(images, folder, *overrides)
    before = statistics(trainer.model)
    progress = trainer.run()
    trainer.telemetry.close()
    return Ran(trainer, progress, trainer.workspace.folder, before)


@pytest.fixture(scope="module")
def cached(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(images, tmp_path_factory.mktemp("cached"), *OFF, "train.finetune.views=1")


@pytest.fixture(scope="module")
def uncached(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(images, tmp_path_factory.mktemp("uncached"), *OFF, "train.head.views=0", "train.finetune.views=0")


@pytest.fixture(scope="module")
def roomless(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran(images, tmp_path_factory.mktemp("roomless"), *OFF, "train.finetune.views=1", "data.pack_gb=0")


def assert_same_curves(one: Ran, other: Ran) -> None:
    for phase in ("head", "finetune"):
        losses, others = one.curve(f"{phase}/loss"), other.curve(f"{phase}/loss")
        assert len(losses) == one.progress.num_steps[phase] > 4
        np.testing.assert_allclose(losses, others, atol=1e-4)
        np.testing.assert_allclose(one.curve(f"{phase}/val_loss"), other.curve(f"{phase}/val_loss"), atol=1e-3)
    assert [trained.name for trained in one.progress.finished] == ["probe", "head", "finetune"]


def test_the_control_moves(cached: Ran) -> None:
    losses = cached.curve("finetune/loss")
    assert np.ptp(losses) > 0.01
    features = cached.study._plain_features(cached.study._cut(cached.study.recipe.phases[0]))
    assert features.plain(cached.study._train).std(axis=0).max() > 0.05


def test_training_on_cached_features_equals_training_through_the_frozen_trunk(cached: Ran, uncached: Ran) -> None:
    assert_same_curves(cached, uncached)


def test_without_room_for_a_pack_or_features_the_same_is_trained(cached: Ran, roomless: Ran) -> None:
    assert not list(roomless.folder.rglob("pixels-*.npy"))
    assert_same_curves(cached, roomless)


@pytest.mark.parametrize(
    ("overrides", "of_head", "of_finetune"),
    [
        ((), "on the cached plain view", "2 cached views"),
        (("train.finetune.unfreeze=1",), "on the cached plain view", "augmented afresh (nothing is frozen)"),
        (("data.pack_gb=1e-9",), "would take more than data.pack_gb=1e-09", "would take more than data.pack_gb=1e-09"),
        (("augment.mixup=0.2",), "on the cached plain view", "augmented afresh, at most"),
    ],
)
def test_the_recipe_says_what_is_cached_and_that_is_what_trains(
    overrides: tuple[str, ...], of_head: str, of_finetune: str, images: Path, tmp_path: Path
) -> None:
    trainer = made(images, tmp_path, *overrides)
    *_, head, finetune = trainer.describe()
    assert of_head in head
    assert of_finetune in finetune
    for phase, line in zip(trainer.recipe.phases, (head, finetune), strict=True):
        with trainer.workspace.timings.stage("features"):
            _, _, cached = trainer._frozen(phase, trainer._cut(phase))
        assert (cached is not None) == ("augmented afresh" not in line)


@pytest.mark.parametrize("name", ["cached", "uncached"])
def test_frozen_batchnorm_keeps_its_statistics_through_the_whole_run(name: str, request: pytest.FixtureRequest) -> None:
    one: Ran = request.getfixturevalue(name)
    after = statistics(one.study.model)
    assert len(after) > 20
    for value, now in zip(one.statistics, after, strict=True):
        np.testing.assert_array_equal(value, now)
    moved = [v for v in one.study.model.trainable_variables if "conv_pw" in v.path]
    position = one.study._position
    assert any((one.study._pretrained[position[id(v)]] != v.numpy()).any() for v in moved)


def test_the_images_of_a_phase_are_those_it_saw(cached: Ran, images: Path, tmp_path: Path) -> None:
    timed = cached.study.workspace.timings.num_images
    assert timed["features"] == len(cached.study._known)
    assert timed["finetune"] == cached.progress.num_steps["finetune"] * 10
    # A rate this high ruins the start, and patience ends the phase.
    one = ran(images, tmp_path, *OFF, "train.finetune.epochs=9", "train.finetune.patience=1", f"{RATE}=1000")
    known, train = len(one.study._known), len(one.study._train)
    assert one.study.workspace.timings.num_images["features"] == known + train
    num_steps = one.progress.num_steps["finetune"]
    assert num_steps < one.study.recipe.phases[-1].num_steps
    assert one.study.workspace.timings.num_images["finetune"] == num_steps * 10


def test_a_candidate_is_its_weights_on_the_pretrained_model(cached: Ran) -> None:
    trainer = cached.study
    for trained in cached.progress.finished:
        trainer.apply(trained.weights)
        np.testing.assert_allclose(trainer.logits(trainer._val), trained.val_logits, atol=1e-4)


def test_augmented_images_are_shown_and_hyperparameters_told(cached: Ran) -> None:
    assert len(cached.curve("augmented")) >= 1
    told = measure.hyperparameters(cached.study)
    assert told["backbone"] == "mobilenet_025"
    assert told["finetune.learning_rate"] == 0.001
    assert told["head.steps"] == cached.study.recipe.phases[0].num_steps


def test_trained_batchnorm_refuses_shares_that_are_padded(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a batch of 10 does not divide evenly into 3 parts") as caught:
        ran(images, tmp_path, "train.finetune.batchnorm=trained", "train.accumulate=3")
    assert "multiple of 3" in caught.value.next_step


def test_trained_batchnorm_moves_and_mixing_trains(images: Path, tmp_path: Path) -> None:
    one = ran(
        images,
        tmp_path,
        "train.head.enabled=false",
        "train.finetune.batchnorm=trained",
        "train.finetune.epochs=1",
        "train.finetune.ema=0.5",
        "augment.mixup=0.2",
        "augment.cutmix=1.0",
        "augment.randaugment=3",
        "train.class_weights=balanced",
    )
    moved = [(a != b).any() for a, b in zip(one.statistics, statistics(one.study.model), strict=True)]
    assert any(moved)
    assert not all(moved)
    assert np.isfinite(one.curve("finetune/loss")).all()


def fails_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the n-th steps of a process refused as TensorFlow refuses one that is not finite."""
    original, numbers = TrainStep.run, itertools.count(1)

    def run(self: TrainStep, placed: Placed, *, is_stopping: bool = False) -> dict[str, Any]:
        refused = next(
            (place for place, number in zip(range(len(placed.batches)), numbers, strict=False) if number in steps), None
        )
        if refused is None:
            return original(self, placed, is_stopping=is_stopping)
        if refused:
            original(self, self.place(placed.batches[:refused]), is_stopping=is_stopping)
        raise tf.errors.InvalidArgumentError(None, None, f"{NOT_FINITE}: loss nan")

    monkeypatch.setattr(TrainStep, "run", run)


def test_a_phase_that_diverged_begins_again_once_at_half_the_learning_rate(
    cached: Ran, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head_steps = cached.progress.num_steps["head"]
    fails_at({head_steps + 4}, monkeypatch)
    one = ran(images, tmp_path, *OFF, "train.on_divergence=retry", "checkpoint.every_steps=2")
    assert one.progress.retries == {"finetune": 1}
    # From the last checkpoint, not from the start; no step counted twice.
    assert one.progress.num_steps == cached.progress.num_steps
    rates, others = one.curve("finetune/learning_rate"), cached.curve("finetune/learning_rate")
    np.testing.assert_allclose(rates[:3], others[:3])
    np.testing.assert_allclose(rates[3:], 0.5 * others[2:], rtol=1e-5)
    assert one.study.notes == ["finetune diverged once and began again at half the learning rate"]


@pytest.mark.parametrize(("setting", "steps"), [("stop", {3}), ("retry", {3, 6})])
def test_a_phase_that_diverges_again_or_may_not_be_retried_fails_the_job(
    setting: str, steps: set[int], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(steps, monkeypatch)
    with pytest.raises(DivergedError, match="not finite: loss nan at or before step 3 of head") as caught:
        ran(images, tmp_path, *OFF, f"train.on_divergence={setting}")
    assert len(caught.value.images) == 10


def test_balanced_class_weights_are_inverse_to_the_counts_with_mean_one() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1, np.int32)
    weights = class_weights(labels, 4, "balanced")
    np.testing.assert_allclose(weights[:3] * [6, 3, 1], weights[0] * 6)
    assert weights[labels].sum() * 4 / 3 == pytest.approx(len(labels))
    assert np.isfinite(weights).all()
    np.testing.assert_array_equal(class_weights(labels, 4, "none"), np.ones(4))


def test_the_calibrated_loss_does_not_see_the_scale_of_logits() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200).astype(np.int32)
    logits = (np.eye(3)[labels] * 1.5 + rng.normal(size=(200, 3))).astype(np.float32)
    losses = [calibrated_log_loss(logits * scale, labels) for scale in (0.5, 1.0, 3.0)]
    np.testing.assert_allclose(losses, losses[0], atol=1e-3)


def test_random_numbers_of_a_view_are_those_of_its_epoch() -> None:
    from job.training.recipe import Augmentation
    from job.training.views import Views

    views = Views(5, 32, Augmentation(flip=True, crop_scale=0.5, color=0.2))
    indices = np.array([4, 9])
    np.testing.assert_array_equal(views.randoms(2)(indices), uniforms(5, np.array([2, 2]), indices))
