"""Multinomial logistic regression on frozen features."""

from __future__ import annotations

import numpy as np

from job.evaluation import metrics
from job.training import probe


def _blobs(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num).astype(np.int32)
    centers = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]], np.float32)
    # Features of very different scales, and one that is dead.
    scale = np.array([1, 100, 0.01, 0], np.float32)
    return ((centers[labels] + rng.normal(size=(num, 4))) * scale + 5).astype(np.float32), labels


def _score(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(metrics.losses(logits, labels).mean())


def _fit(weights: np.ndarray | None = None) -> probe.Probe:
    features, labels = _blobs(300, 0)
    val_features, val_labels = _blobs(200, 1)
    class_weights = np.ones(3, np.float32) if weights is None else weights
    return probe.fit(
        features, labels, val_features, val_labels, num_classes=3, class_weights=class_weights, score=_score
    )


def test_it_takes_raw_features_and_generalises() -> None:
    features, labels = _blobs(500, 2)
    found = _fit()
    logits = features @ found.kernel + found.bias
    assert (logits.argmax(axis=1) == labels).mean() > 0.8
    assert found.kernel.dtype == found.bias.dtype == np.float32


def test_the_solution_is_the_optimum_of_its_strength() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 50)]
    weights = rng.normal(size=8)
    _, gradient = probe._objective(weights, features, targets, 0.1)
    step = 1e-2
    for place in range(8):
        moved = np.zeros(8)
        moved[place] = step
        above, _ = probe._objective(weights + moved, features, targets, 0.1)
        below, _ = probe._objective(weights - moved, features, targets, 0.1)
        np.testing.assert_allclose(gradient[place], (above - below) / (2 * step), atol=2e-3)


def test_validation_chooses_the_strength() -> None:
    found = _fit()
    features, labels = _blobs(200, 1)
    assert found.l2 in probe.L2_GRID
    assert (
        found.log_loss == _score(features @ found.kernel + found.bias, labels)
        or abs(found.log_loss - _score(features @ found.kernel + found.bias, labels)) < 1e-3
    )


def test_a_class_of_more_weight_is_predicted_more_often() -> None:
    features, _ = _blobs(500, 3)

    def share(found: probe.Probe) -> float:
        return float(((features @ found.kernel + found.bias).argmax(axis=1) == 0).mean())

    assert share(_fit(np.array([5, 0.5, 0.5], np.float32))) > share(_fit())
