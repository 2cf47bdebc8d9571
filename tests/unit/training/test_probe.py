"""The linear classifier on frozen features: an optimum, on raw features, at the best strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from job.training import probe

K, D = 3, 5


def drawn(num: int, *, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (features float32 [num, D] of unequal scales, labels int32 [num])."""
    centers = np.random.default_rng(99).normal(size=(K, D))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, num).astype(np.int32)
    features = (centers[labels] + spread * rng.normal(size=(num, D))) * [1, 100, 0.01, 1, 1] + [0, 7, 0, -3, 0]
    return features.astype(np.float32), labels


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    normaliser = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return float(np.mean(normaliser - logits[np.arange(len(labels)), labels]))


def fitted(train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], **kwargs: Any) -> probe.Probe:
    settings: dict[str, Any] = {"num_classes": K, "class_weights": np.ones(K, np.float32), "score": log_loss}
    return probe.fit(*train, *val, **{**settings, **kwargs})


def optimum(train: tuple[np.ndarray, np.ndarray], l2: float) -> tuple[float, Any]:
    """Returns (smallest regularised loss, raw features → logits), in float64 and to the end."""
    features, labels = train
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    x = (features - mean) / scale
    targets = np.eye(K)[labels]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(D + 1, K)
        logits = x @ weights[:-1] + weights[-1]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        residual = (shares - targets) / len(x)
        gradient = np.concatenate([x.T @ residual + l2 * weights[:-1], residual.sum(axis=0)[None]])
        return log_loss(logits, labels) + l2 / 2 * np.sum(weights[:-1] ** 2), gradient.ravel()

    found = minimize(objective, np.zeros((D + 1) * K), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    weights = found.x.reshape(D + 1, K)
    return found.fun, lambda raw: (raw - mean) / scale @ weights[:-1] + weights[-1]


def test_the_solution_is_the_optimum_of_its_strength_on_raw_features() -> None:
    train, val = drawn(120, seed=0), drawn(60, seed=1)
    found = fitted(train, val)
    scale = train[0].std(axis=0)
    kernel = found.kernel * scale[:, None]
    loss = log_loss(train[0] @ found.kernel + found.bias, train[1]) + found.l2 / 2 * np.sum(kernel**2)
    least, logits = optimum(train, found.l2)
    assert least - 1e-6 <= loss <= least + 1e-4
    np.testing.assert_allclose(
        log_loss(val[0] @ found.kernel + found.bias, val[1]), log_loss(logits(val[0]), val[1]), atol=2e-3
    )


def test_the_gradient_is_that_of_the_objective_and_vanishes_at_the_solution() -> None:
    features, labels = drawn(80, seed=2)
    x = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = np.eye(K, dtype=np.float32)[labels]
    weights = np.random.default_rng(0).normal(size=(D + 1) * K)
    _, gradient = probe._objective(weights, x.astype(np.float64), targets, 0.1)
    for position in range(len(weights)):
        step = np.zeros_like(weights)
        step[position] = 1e-2
        above, below = (probe._objective(weights + sign * step, x, targets, 0.1)[0] for sign in (1, -1))
        assert gradient[position] == pytest.approx((above - below) / 2e-2, abs=2e-3)
    found = fitted((features, labels), drawn(40, seed=3))
    kernel = found.kernel * features.std(axis=0)[:, None]
    bias = found.bias + features.mean(axis=0) @ found.kernel
    _, rest = probe._objective(np.concatenate([kernel, bias[None]]).ravel(), x, targets, found.l2)
    assert np.abs(rest).max() < 2e-3


@pytest.mark.parametrize("spread", [0.3, 3.0], ids=["separable", "noise"])
def test_validation_picks_the_strength(spread: float) -> None:
    train, val = drawn(60, seed=4, spread=spread), drawn(200, seed=5, spread=spread)
    found = fitted(train, val)
    losses = {l2: log_loss(optimum(train, l2)[1](val[0]), val[1]) for l2 in probe.L2_GRID}
    assert found.log_loss == pytest.approx(min(losses.values()), abs=5e-3)
    assert found.log_loss == pytest.approx(losses[found.l2], abs=5e-3)


def test_noise_wants_a_stronger_strength_than_signal() -> None:
    by_spread = [
        fitted(drawn(60, seed=4, spread=spread), drawn(200, seed=5, spread=spread)).l2 for spread in (0.3, 3.0)
    ]
    assert by_spread[0] < by_spread[1]


def test_a_class_weight_of_two_counts_an_example_twice() -> None:
    (features, labels), val = drawn(90, seed=6), drawn(60, seed=7)
    twice = np.concatenate([np.arange(90), np.flatnonzero(labels == 0)])
    share = len(twice) / 90
    doubled = fitted((features[twice], labels[twice]), val)
    weights = np.array([2, 1, 1], np.float32) / np.float32(share)
    weighted = fitted((features, labels), val, class_weights=weights)
    logits = [val[0] @ found.kernel + found.bias for found in (doubled, weighted)]
    # Not the same to the last digit: the features are standardised over other rows.
    assert np.mean(logits[0].argmax(axis=1) == logits[1].argmax(axis=1)) > 0.95
    plain = fitted((features, labels), val)
    assert np.abs(weighted.bias - plain.bias).max() > 1e-3


def test_a_dead_feature_does_no_harm() -> None:
    (features, labels), (val_features, val_labels) = drawn(60, seed=8), drawn(60, seed=9)
    features[:, 2] = val_features[:, 2] = 4.0
    found = fitted((features, labels), (val_features, val_labels))
    assert np.isfinite(found.kernel).all()
    np.testing.assert_allclose(found.kernel[2], 0.0, atol=1e-6)
    assert found.kernel.dtype == found.bias.dtype == np.float32


def test_progress_ends_at_its_total() -> None:
    told: list[tuple[int, int]] = []
    fitted(drawn(60, seed=4), drawn(60, seed=5), on_progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(probe.L2_GRID)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
