"""Random changes of images: exact where they should be, bounded, and pure functions of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from job.dataset import augment
from job.dataset.feed import NUM_RANDOMS, uniforms

B, S = 6, 16
OFF: dict[str, Any] = {"image_px": S, "flip": False, "crop_scale": 1.0, "color": 0.0}
_FLIP, _MIX, _WHICH = 0, 8, 11


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (B, S, S, 3), dtype=np.uint8)


def randoms(epoch: int = 0, indices: np.ndarray | None = None) -> np.ndarray:
    indices = np.arange(B) if indices is None else indices
    return uniforms(5, np.full(len(indices), epoch), indices)


def test_with_everything_off_a_view_is_the_image(images: np.ndarray) -> None:
    np.testing.assert_array_equal(augment.view(images, randoms(), **OFF), images.astype(np.float32))


@pytest.mark.parametrize("px", [16, 17, 33, 48])
def test_a_flip_is_exact(px: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (B, px, px, 3), dtype=np.uint8)
    numbers = randoms()
    numbers[:, _FLIP] = [0.0, 0.49, 0.5, 0.99, 0.1, 0.9]
    found = augment.view(images, numbers, **{**OFF, "image_px": px, "flip": True}).numpy()
    mirrored = [True, True, False, False, True, False]
    wanted = np.where(np.array(mirrored)[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    np.testing.assert_array_equal(found.round(), wanted)


def test_the_plain_view_is_the_exact_centre() -> None:
    images = np.random.default_rng(1).integers(0, 256, (B, 20, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(augment.center(images, image_px=S), images[:, 2:18, 2:18])


def test_the_middle_window_of_a_larger_image_is_exact() -> None:
    images = np.random.default_rng(2).integers(0, 256, (B, 24, 24, 3), dtype=np.uint8)
    middle = np.full((B, NUM_RANDOMS), 0.5, np.float32)
    found = augment.view(images, middle, **OFF).numpy()
    np.testing.assert_allclose(found, images[:, 4:20, 4:20], atol=2e-3)


def test_color_is_brightness_then_contrast_then_saturation(images: np.ndarray) -> None:
    numbers, wanted = randoms(), images.astype(np.float64)
    brightness, contrast, saturation = (
        (1 + 0.5 * (2 * numbers[:, column].astype(np.float64) - 1))[:, None, None, None] for column in (5, 6, 7)
    )
    wanted = wanted * brightness
    mean = wanted.mean((1, 2, 3), keepdims=True)
    wanted = mean + (wanted - mean) * contrast
    grey = (wanted @ np.array([0.299, 0.587, 0.114]))[..., None]
    wanted = np.clip(grey + (wanted - grey) * saturation, 0, 255)
    assert min(np.ptp(brightness), np.ptp(contrast), np.ptp(saturation)) > 0.1
    found = augment.jitter(images.astype(np.float32), numbers, strength=0.5).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_color_at_the_middle_changes_nothing(images: np.ndarray) -> None:
    middle = np.full((B, NUM_RANDOMS), 0.5, np.float32)
    found = augment.jitter(images.astype(np.float32), middle, strength=0.5).numpy()
    np.testing.assert_allclose(found, images, atol=1e-2)


def test_a_random_window_of_the_models_size_only_shifts() -> None:
    rows, columns = np.meshgrid(np.arange(24.0), np.arange(24.0), indexing="ij")
    ramp = np.stack([rows * 10, columns * 10, np.zeros_like(rows)], axis=2)[None].repeat(B, axis=0)
    found = augment.view(ramp, randoms(), **OFF).numpy()
    np.testing.assert_allclose(np.diff(found[..., 0], axis=1), 10.0, atol=1e-3)
    np.testing.assert_allclose(np.diff(found[..., 1], axis=2), 10.0, atol=1e-3)
    assert found[..., 0].min() >= -1e-3
    assert found[..., 0].max() <= 230.001


@pytest.mark.parametrize("scale", [0.08, 0.5, 0.95])
def test_a_crop_keeps_at_least_its_share_of_the_area_and_stays_inside(scale: float) -> None:
    numbers = randoms(indices=np.arange(500))
    boxes = augment.crop_boxes(numbers, stored_px=S, image_px=S, flip=True, crop_scale=scale).numpy()
    # The op counts from the first sample to the last one: back to shares of the image.
    sides = np.abs(boxes[:, 2:] - boxes[:, :2]) * (S - 1) / S / (1 - 1 / S)
    area = sides[:, 0] * sides[:, 1]
    ratio = sides[:, 1] / sides[:, 0]
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert area.max() <= 1.0 + 1e-5
    # A side longer than the image is cut off at its border, at the widest ratio.
    assert area.min() >= scale * (1 / np.sqrt(4 / 3) if scale > 0.7 else 1) - 1e-4
    assert area.mean() == pytest.approx((scale + 1) / 2, abs=0.06)
    # Corners at the border are clipped, by a rounding at most.
    assert ratio.min() >= 3 / 4 - 5e-3
    assert ratio.max() <= 4 / 3 + 5e-3


@pytest.mark.parametrize("settings", [{"flip": True}, {"crop_scale": 0.3}, {"color": 1.0}, {"magnitude": 10}])
def test_every_change_keeps_to_0_up_to_255(settings: dict[str, Any], images: np.ndarray) -> None:
    found = augment.view(images, randoms(), **{**OFF, **settings}).numpy()
    assert found.dtype == np.float32
    assert found.shape == (B, S, S, 3)
    assert found.min() >= 0.0
    assert found.max() <= 255.0
    assert np.abs(found - images).max() > 1


ALL: dict[str, Any] = {"image_px": S, "flip": True, "crop_scale": 0.4, "color": 0.3, "magnitude": 7}


def test_a_view_depends_on_its_example_and_epoch_and_not_on_its_batch(images: np.ndarray) -> None:
    whole = augment.view(images, randoms(), **ALL).numpy()
    part = np.array([4, 1])
    among_others = augment.view(images[part], randoms(indices=part), **ALL).numpy()
    np.testing.assert_array_equal(among_others, whole[part])
    np.testing.assert_array_equal(augment.view(images, randoms(), **ALL), whole)
    assert np.abs(augment.view(images, randoms(epoch=1), **ALL).numpy() - whole).max() > 1


def test_switching_one_change_off_leaves_the_others_as_they_were(images: np.ndarray) -> None:
    cropped = augment.view(images, randoms(), **{**OFF, "crop_scale": 0.4}).numpy()
    both = augment.view(images, randoms(), **{**OFF, "crop_scale": 0.4, "color": 0.3}).numpy()
    np.testing.assert_array_equal(augment.jitter(cropped, randoms(), strength=0.3), both)


def test_a_gray_picture_keeps_its_gray_under_saturation() -> None:
    gray = np.full((B, S, S, 3), 100.0, np.float32)
    found = augment.jitter(gray, randoms(), strength=0.5).numpy()
    np.testing.assert_allclose(found[..., 0], found[..., 1], atol=1e-3)
    np.testing.assert_allclose(found[..., 0], found[..., 2], atol=1e-3)


def mixed(**alphas: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (mixed images, targets) of white images of class 0 with black ones of class 1."""
    white, black = np.full((200, S, S, 3), 255.0, np.float32), np.zeros((200, S, S, 3), np.float32)
    targets = np.eye(3, dtype=np.float32)[np.zeros(200, int)]
    others = np.eye(3, dtype=np.float32)[np.ones(200, int)]
    numbers = randoms(indices=np.arange(200))
    found = augment.mix(white, black, targets, others, numbers, **{"mixup": 0.0, "cutmix": 0.0, **alphas})
    return found[0].numpy(), found[1].numpy()


@pytest.mark.parametrize("alphas", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_targets_sum_to_one_and_are_the_share_of_the_pixels(alphas: dict[str, float]) -> None:
    images, targets = mixed(**alphas)
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(targets[:, 0], images.mean(axis=(1, 2, 3)) / 255, atol=1e-5)
    assert targets[:, 0].std() > 0.1
    assert (targets[:, 2] == 0).all()


def test_mixup_blends_and_cutmix_pastes() -> None:
    def holds_two_colors(images: np.ndarray) -> np.ndarray:
        return np.isin(images, (0.0, 255.0)).all(axis=(1, 2, 3))

    blended, pasted, either = mixed(mixup=1.0)[0], mixed(cutmix=1.0)[0], mixed(mixup=1.0, cutmix=1.0)[0]
    assert holds_two_colors(pasted).all()
    assert (blended.std(axis=(1, 2, 3)) < 1e-3).all()
    share = holds_two_colors(either).mean()
    assert 0.35 < share < 0.65
    which = randoms(indices=np.arange(200))[:, _WHICH] < 0.5
    np.testing.assert_array_equal(either[which], pasted[which])
    np.testing.assert_array_equal(either[~which], blended[~which])


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    uniform = np.linspace(0.01, 0.99, 99).astype(np.float32)
    found = augment._beta(tf.constant(uniform), alpha).numpy()
    wanted = scipy.stats.beta(alpha, alpha).ppf(uniform)
    np.testing.assert_allclose(found, wanted, atol=1.5e-3)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_ends_of_the_distribution_are_shares_too(alpha: float) -> None:
    found = augment._beta(tf.constant([0.0, 1e-7, 1 - 6e-8]), alpha).numpy()
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] < 1e-3
    assert found[-1] > 1 - 1e-3


def test_there_are_enough_random_numbers_for_every_change() -> None:
    assert augment.FIRST_RANDAUGMENT_COLUMN + 4 <= NUM_RANDOMS
