"""Random changes are pure functions of the image and the numbers handed in."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from job.dataset import augment
from job.dataset.feed import NUM_RANDOMS, uniforms

OFF = {"flip": False, "crop_scale": 1.0, "color": 0.0}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3)).astype(np.uint8)


@pytest.fixture
def randoms() -> np.ndarray:
    return uniforms(0, np.zeros(6, np.int64), np.arange(6))


def _constant(value: float, num: int = 6) -> np.ndarray:
    return np.full((num, NUM_RANDOMS), value, np.float32)


def test_everything_off_changes_nothing(images: np.ndarray, randoms: np.ndarray) -> None:
    assert np.array_equal(augment.view(images, randoms, image_px=24, **OFF).numpy(), images)


def test_a_flip_is_exact_and_happens_below_a_half(images: np.ndarray) -> None:
    flips = {**OFF, "flip": True}
    assert np.array_equal(augment.view(images, _constant(0.49), image_px=24, **flips), images[:, :, ::-1])
    assert np.array_equal(augment.view(images, _constant(0.5), image_px=24, **flips), images)


def test_the_middle_crop_of_a_larger_image_is_exact(images: np.ndarray) -> None:
    found = augment.view(images, _constant(0.5), image_px=16, **OFF)
    np.testing.assert_allclose(found, images[:, 4:20, 4:20], atol=1e-3)
    assert np.array_equal(augment.center(images, image_px=16), images[:, 4:20, 4:20])


def test_crops_keep_at_least_their_share_of_the_area() -> None:
    randoms = uniforms(1, np.zeros(500, np.int64), np.arange(500))
    boxes = augment.crop_boxes(randoms, stored_px=64, image_px=64, flip=False, crop_scale=0.4).numpy()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    # The corners are pixel centres, a pixel less than the box.
    assert area.min() > 0.4 * (63 / 64) ** 2 - 0.05
    assert area.std() > 0.1


def test_a_view_does_not_depend_on_the_rest_of_the_batch(images: np.ndarray, randoms: np.ndarray) -> None:
    settings = {"image_px": 24, "flip": True, "crop_scale": 0.5, "color": 0.3, "magnitude": 7}
    whole = augment.view(images, randoms, **settings).numpy()
    part = augment.view(images[2:4], randoms[2:4], **settings).numpy()
    np.testing.assert_allclose(whole[2:4], part, atol=1e-3)
    assert np.abs(whole - images).mean() > 5
    assert whole.min() >= 0
    assert whole.max() <= 255


def test_color_at_the_middle_changes_nothing(images: np.ndarray) -> None:
    np.testing.assert_allclose(
        augment.jitter(tf.cast(images, tf.float32), _constant(0.5), strength=0.5), images, atol=1e-2
    )


def test_randaugment_draws_the_identity_and_moves_otherwise(images: np.ndarray) -> None:
    pixels = tf.cast(images, tf.float32)
    assert np.array_equal(augment.randaugment(pixels, _constant(0.99)[:, :4], magnitude=9), images)
    for draw in np.arange(0, 11) / 12 + 0.01:
        moved = augment.randaugment(pixels, _constant(float(draw))[:, :4], magnitude=9)
        assert np.abs(moved.numpy() - images).mean() > 0.5, draw


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_targets_are_mixed_as_the_pixels_are(mixup: float, cutmix: float) -> None:
    ones, zeros = tf.ones((64, 16, 16, 3)), tf.zeros((64, 16, 16, 3))
    first, second = tf.one_hot([0] * 64, 2), tf.one_hot([1] * 64, 2)
    randoms = uniforms(0, np.zeros(64, np.int64), np.arange(64))
    images, targets = augment.mix(ones, zeros, first, second, randoms, mixup=mixup, cutmix=cutmix)
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(targets[:, 0], tf.reduce_mean(images, axis=[1, 2, 3]), atol=1e-5)
    assert targets[:, 0].numpy().std() > 0.05


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_a_beta_distribution(alpha: float) -> None:
    quantiles = np.linspace(0.05, 0.95, 19).astype(np.float32)
    found = augment._beta(tf.constant(quantiles), alpha)
    np.testing.assert_allclose(found, scipy.stats.beta(alpha, alpha).ppf(quantiles), atol=0.01)
