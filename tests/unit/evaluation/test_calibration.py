"""Temperature scaling and the calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.evaluation import calibration, metrics


def drawn(true_temperature: float, num_images: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and the logits z * true_temperature a wrongly confident model would give."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (num_images, 4))
    labels = np.argmax(z + rng.gumbel(size=z.shape), axis=1).astype(np.int32)
    return (z * true_temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    logits, labels = drawn(temperature)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


def test_scaling_by_the_fitted_temperature_lowers_the_calibration_error() -> None:
    logits, labels = drawn(3.0)
    held_out, held_labels = drawn(3.0, seed=1)
    found = calibration.fit_temperature(logits, labels)
    before = calibration.expected_calibration_error(held_out, held_labels)
    after = calibration.expected_calibration_error(held_out / found, held_labels)
    assert before > 0.1
    assert after < 0.03


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(2, 5), st.floats(0.05, 30), st.integers(0, 2**31))
def test_without_prior_no_other_temperature_has_a_lower_log_loss(
    num_images: int, num_classes: int, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(0, 1, (num_images, num_classes)) * spread).astype(np.float32)
    labels = rng.integers(0, num_classes, num_images).astype(np.int32)
    found = calibration.fit_temperature(logits, labels, prior=0.0)
    assert calibration.COLDEST <= found <= calibration.HOTTEST
    least = metrics.losses(logits / np.float64(found), labels).mean()
    for other in np.geomspace(calibration.COLDEST, calibration.HOTTEST, 41):
        assert least <= metrics.losses(logits / other, labels).mean() + 1e-7


def test_a_validation_set_without_mistakes_does_not_make_the_model_certain() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60).astype(np.int32)
    logits = rng.normal(0, 0.3, (60, 3)).astype(np.float32)
    logits[np.arange(60), labels] += 4
    assert calibration.fit_temperature(logits, labels, prior=0.0) == pytest.approx(calibration.COLDEST)
    assert 0.3 < calibration.fit_temperature(logits, labels) < 1.0


def test_a_validation_set_that_is_all_wrong_ends_at_the_bound() -> None:
    logits = np.tile(np.array([[50.0, 0.0]], np.float32), (500, 1))
    assert calibration.fit_temperature(logits, np.ones(500, np.int32)) == pytest.approx(calibration.HOTTEST)


def test_no_images_leave_the_temperature_at_one() -> None:
    assert calibration.fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int32)) == 1.0


def test_logits_all_equal_leave_the_temperature_at_one() -> None:
    assert calibration.fit_temperature(np.ones((9, 3), np.float32), np.zeros(9, np.int32)) == pytest.approx(1.0)


def test_reliability_bins_hold_every_image_once() -> None:
    logits, labels = drawn(2.0, num_images=333)
    found = calibration.reliability(logits, labels, bins=15)
    assert found.counts.sum() == 333
    edges = np.arange(16) / 15
    for at in np.flatnonzero(found.counts):
        assert edges[at] < found.confidence[at] <= edges[at + 1] + 1e-12


def test_certain_and_right_has_no_calibration_error() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert calibration.expected_calibration_error(logits, np.array([0, 1], np.int32)) == 0.0
    assert calibration.expected_calibration_error(logits, np.array([1, 0], np.int32)) == 1.0
