"""Which candidate ships."""

from __future__ import annotations

import numpy as np
import pytest

from job.errors import DivergedError
from job.evaluation.winner import Candidate, choose


def logits_of(quality: float, seed: int = 0, num_images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(99).integers(0, 4, num_images).astype(np.int32)
    logits = np.random.default_rng(seed).normal(0, 1, (num_images, 4)).astype(np.float32)
    logits[np.arange(num_images), labels] += np.float32(quality)
    return logits, labels


def test_the_lowest_log_loss_wins_whatever_the_order_given() -> None:
    good, labels = logits_of(3.0)
    poor, _ = logits_of(1.0, seed=1)
    candidates = [Candidate("fine-tune", good, 2), Candidate("probe", poor, 0)]
    choice = choose(candidates, labels, resamples=200, seed=0)
    assert (choice.winner, choice.name) == (0, "fine-tune")
    assert choice.reason.startswith("fine-tune: the lowest log loss")
    (step,) = choice.steps
    assert (step.name, step.over) == ("fine-tune", "probe")
    assert step.gains.log_loss.low > 0
    assert choose(candidates[::-1], labels, resamples=200, seed=0).winner == 1


def test_on_a_tie_the_simpler_wins_and_the_reason_says_so() -> None:
    same, labels = logits_of(2.0)
    candidates = [Candidate("fine-tune", same.copy(), 2), Candidate("head", same.copy(), 1)]
    choice = choose(candidates, labels, resamples=200, seed=0)
    assert choice.name == "head"
    assert "tied with fine-tune" in choice.reason
    assert "Within noise: fine-tune over head" in choice.reason


def test_over_confidence_that_calibration_repairs_costs_nothing() -> None:
    good, labels = logits_of(2.0)
    poor, _ = logits_of(1.6, seed=1)
    choice = choose([Candidate("probe", poor, 0), Candidate("head", good * 10, 1)], labels, resamples=200, seed=0)
    assert choice.name == "head"
    alone = choose([Candidate("head", good, 0)], labels, resamples=200, seed=0)
    assert choice.temperature == pytest.approx(10 * alone.temperature, rel=0.05)


def test_a_small_gain_is_shipped_but_called_noise() -> None:
    base, labels = logits_of(2.0)
    nearly = base + np.random.default_rng(3).normal(0, 0.05, base.shape).astype(np.float32)
    choice = choose([Candidate("probe", base, 0), Candidate("head", nearly, 1)], labels, resamples=400, seed=0)
    assert choice.steps[0].gains.log_loss.within_noise
    assert "Within noise: head over probe" in choice.reason


def test_a_more_accurate_loser_is_named() -> None:
    labels = np.zeros(10, np.int32)
    hair = np.tile(np.array([[0.001, 0.0]], np.float32), (10, 1))  # right ten times, by a hair
    bold = np.tile(np.array([[3.0, 0.0]], np.float32), (10, 1))  # right nine times, and sure of it
    bold[0] = [-0.2, 0.0]
    choice = choose([Candidate("probe", hair, 0), Candidate("head", bold, 1)], labels, resamples=100, seed=0)
    assert choice.name == "head"
    assert "More accurate but less sure of the right class: probe (1.0000)" in choice.reason


def test_the_only_candidate_wins() -> None:
    logits, labels = logits_of(1.0)
    choice = choose([Candidate("probe", logits, 0)], labels, resamples=100, seed=0)
    assert choice.reason.startswith("probe: the only candidate")
    assert choice.steps == ()


def test_logits_that_are_not_finite_are_refused_by_name() -> None:
    logits, labels = logits_of(1.0)
    logits[3, 1] = np.nan
    with pytest.raises(DivergedError, match="The head model gives 1 logits that are not finite"):
        choose([Candidate("head", logits, 0)], labels, resamples=100, seed=0)
