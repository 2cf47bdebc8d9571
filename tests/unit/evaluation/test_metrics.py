"""The scores, against values worked out by hand and against properties that hold for any input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.evaluation import metrics

LOGITS = np.log(
    np.array(
        [
            [0.7, 0.2, 0.1],  # 0, right
            [0.3, 0.6, 0.1],  # 0, taken for 1
            [0.1, 0.8, 0.1],  # 1, right
            [0.5, 0.3, 0.2],  # 1, taken for 0
        ]
    )
).astype(np.float32)
LABELS = np.array([0, 0, 1, 1], np.int32)


def test_scores_equal_those_worked_out_by_hand() -> None:
    found = metrics.score(LOGITS, LABELS, top_k=2)
    assert found.accuracy == 0.5
    assert found.top_k_accuracy == 1.0
    assert found.k == 2
    assert found.log_loss == pytest.approx(-math.log(0.7 * 0.3 * 0.8 * 0.3) / 4, abs=1e-6)
    assert found.macro_f1 == pytest.approx(0.5)
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.per_class[0] == metrics.ClassScores(0.5, 0.5, 0.5, 2)
    assert found.per_class[2] == metrics.ClassScores(0.0, 0.0, 0.0, 0)
    # Bins of width 1/15: 0.7 (right), 0.6 (wrong), 0.8 (right), 0.5 (wrong) lie in four different ones.
    assert found.ece == pytest.approx((0.3 + 0.6 + 0.2 + 0.5) / 4, abs=1e-6)


def test_a_class_without_images_does_not_lower_macro_f1() -> None:
    logits = np.array([[9.0, 0, 0], [0, 9.0, 0]], np.float32)
    assert metrics.score(logits, np.array([0, 1], np.int32)).macro_f1 == 1.0


def test_temperature_changes_log_loss_and_ece_only() -> None:
    plain, hot = metrics.score(LOGITS, LABELS), metrics.score(LOGITS, LABELS, temperature=4.0)
    assert (plain.accuracy, plain.macro_f1) == (hot.accuracy, hot.macro_f1)
    assert plain.log_loss != hot.log_loss
    assert plain.ece != hot.ece


def test_equal_logits_go_to_the_lower_class_in_accuracy_and_in_top_k() -> None:
    found = metrics.score(np.zeros((3, 4), np.float32), np.array([0, 1, 3], np.int32), top_k=2)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.top_k_accuracy == pytest.approx(2 / 3)


def test_log_loss_stays_finite_where_the_probability_rounds_to_zero() -> None:
    logits = np.array([[0.0, 5000.0]], np.float32)
    assert metrics.score(logits, np.array([0], np.int32)).log_loss == pytest.approx(5000.0)


def test_scores_become_json() -> None:
    plain = json.loads(json.dumps(metrics.score(LOGITS, LABELS).to_dict()))
    assert plain["num_images"] == 4
    assert plain["per_class"][1] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**31))
def test_scores_of_any_input_keep_their_ranges(num_images: int, num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (num_images, num_classes)).astype(np.float32)
    labels = rng.integers(0, num_classes, num_images).astype(np.int32)
    found = metrics.score(logits, labels, top_k=3)
    assert 0 <= found.accuracy <= found.top_k_accuracy <= 1
    assert 0 <= found.ece <= 1
    assert found.confusion.sum() == num_images
    assert np.diagonal(found.confusion).sum() == round(found.accuracy * num_images)
    assert found.log_loss >= 0
    order = rng.permutation(num_images)
    again = metrics.score(logits[order], labels[order], top_k=3)
    assert again.log_loss == pytest.approx(found.log_loss)
    assert again.macro_f1 == pytest.approx(found.macro_f1)


def test_top_k_of_all_classes_is_always_right() -> None:
    assert metrics.score(LOGITS, LABELS, top_k=99).top_k_accuracy == 1.0


def make(num_images: int, quality: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, num_images).astype(np.int32)
    logits = rng.normal(0, 1, (num_images, 5)).astype(np.float32)
    logits[np.arange(num_images), labels] += np.float32(quality)
    return logits, labels


def test_intervals_contain_the_scores_and_have_the_width_theory_gives() -> None:
    logits, labels = make(400, 2.0)
    found = metrics.score(logits, labels)
    intervals = metrics.confidence_intervals(logits, labels, resamples=2000, seed=1)
    for name, (low, high) in intervals.items():
        assert low < getattr(found, name) <= high, name
    low, high = intervals["accuracy"]
    deviation = math.sqrt(found.accuracy * (1 - found.accuracy) / 400)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    low, high = intervals["log_loss"]
    assert high - low == pytest.approx(2 * 1.96 * metrics.losses(logits, labels).std() / 20, rel=0.1)


def test_all_images_right_is_not_certainty() -> None:
    labels = np.arange(240, dtype=np.int32) % 2
    low, high = metrics.confidence_intervals(np.eye(2)[labels], labels, resamples=10, seed=0)["accuracy"]
    assert (low, high) == pytest.approx((240 / (240 + 1.959964**2), 1.0))  # Wilson at a share of 1


def test_macro_f1_interval_equals_that_of_resampling_images_one_by_one() -> None:
    logits, labels = make(120, 1.5)
    rng = np.random.default_rng(5)
    values = []
    for _ in range(1500):
        drawn = rng.integers(0, 120, 120)
        values.append(metrics.score(logits[drawn], labels[drawn]).macro_f1)
    slow = np.percentile(values, [2.5, 97.5])
    fast = metrics.confidence_intervals(logits, labels, resamples=4000, seed=2)["macro_f1"]
    assert fast == pytest.approx(tuple(slow), abs=0.015)


def test_intervals_depend_on_the_seed_alone() -> None:
    logits, labels = make(60, 1.0)
    first = metrics.confidence_intervals(logits, labels, resamples=200, seed=3)
    assert first == metrics.confidence_intervals(logits, labels, resamples=200, seed=3)
    assert first != metrics.confidence_intervals(logits, labels, resamples=200, seed=4)


def test_small_chunks_give_the_same_interval_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = make(60, 1.0)
    whole = metrics.confidence_intervals(logits, labels, resamples=200, seed=3)["log_loss"]
    monkeypatch.setattr(metrics, "_CHUNK", 500)
    assert metrics.confidence_intervals(logits, labels, resamples=200, seed=3)["log_loss"] == pytest.approx(whole)


def test_a_classifier_gains_nothing_over_itself() -> None:
    logits, labels = make(50, 1.0)
    gains = metrics.paired_gain(logits, logits, labels, resamples=300, seed=0)
    assert gains.log_loss == metrics.Gain(0.0, 0.0, 0.0, within_noise=True)
    assert gains.accuracy == metrics.Gain(0.0, 0.0, 0.0, within_noise=True)


def test_a_clear_gain_is_outside_noise_and_its_reverse_is_the_mirror_image() -> None:
    worse, labels = make(300, 0.5)
    better = worse.copy()
    better[np.arange(300), labels] += 2
    there = metrics.paired_gain(worse, better, labels, resamples=500, seed=0)
    back = metrics.paired_gain(better, worse, labels, resamples=500, seed=0)
    assert there.log_loss.low > 0
    assert not there.log_loss.within_noise
    assert there.accuracy.mean > 0.2
    assert back.log_loss.mean == pytest.approx(-there.log_loss.mean)
    assert (back.log_loss.low, back.log_loss.high) == pytest.approx((-there.log_loss.high, -there.log_loss.low))


def test_pairing_sees_a_gain_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200).astype(np.int32)
    sure = rng.normal(1.0, 2.0, 200).astype(np.float32)
    sign = np.where(labels == 1, 1, -1).astype(np.float32)
    a = np.stack([np.zeros(200, np.float32), sure * sign], axis=1)
    b = np.stack([np.zeros(200, np.float32), (sure + np.float32(0.05)) * sign], axis=1)
    low_a, high_a = metrics.confidence_intervals(a, labels, resamples=500, seed=0)["log_loss"]
    low_b, high_b = metrics.confidence_intervals(b, labels, resamples=500, seed=0)["log_loss"]
    assert low_a < high_b
    assert low_b < high_a
    assert not metrics.paired_gain(a, b, labels, resamples=500, seed=0).log_loss.within_noise


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(AssertionError, match="labels end at K-1"):
        metrics.score(LOGITS, np.array([0, 1, 2, 3], np.int32))
