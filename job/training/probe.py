"""A linear classifier on frozen features: a usable model in seconds, and the head's initial weights.

Multinomial logistic regression by L-BFGS on standardised features, over a grid of L2 strengths, each
started from the one before; the validation split picks the strength.
Source: Kornblith, Shlens, Le 2019 (arXiv:1805.08974), appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

L2_GRID = tuple(10.0**exponent for exponent in np.arange(0.0, -5.5, -0.5))
"""Factors of |kernel|² / 2 beside the mean loss, from strong to weak, so that each start is near its optimum."""

PATIENCE = 3
"""Strengths without a better validation score that end the grid."""

MAX_ITERATIONS = 200


@dataclass(frozen=True)
class Probe:
    """logits = features @ kernel + bias.

    Attributes:
        kernel: float32 [D, K].
        bias: float32 [K].
        l2: The strength that won.
        log_loss: On the validation split.
    """

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    log_loss: float


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    *,
    num_classes: int,
    class_weights: np.ndarray,
    score: Callable[[np.ndarray, np.ndarray], float],
    on_progress: Callable[[int, int], None] | None = None,
) -> Probe:
    """Returns the classifier with the best validation score.

    Args:
        features: float32 [N, D]; labels: int32 [N].
        class_weights: float32 [K], mean 1 over the examples.
        score: (logits [M, K], labels [M]) → log loss, lower is better.
    """
    mean = features.mean(axis=0)
    scale = features.std(axis=0)
    # A dead feature has no scale; it stays at 0.
    scale = np.where(scale > 1e-6, scale, 1.0).astype(np.float32)
    train = np.ascontiguousarray((features - mean) / scale)
    val = (val_features - mean) / scale
    targets = np.eye(num_classes, dtype=np.float32)[labels] * class_weights[labels][:, None]
    weights = np.zeros((features.shape[1] + 1) * num_classes)
    best: tuple[float, float, np.ndarray] | None = None
    waited = 0
    for done, l2 in enumerate(L2_GRID, start=1):
        result = minimize(
            _objective,
            weights,
            args=(train, targets, l2),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "ftol": 1e-7},
        )
        weights = result.x
        kernel, bias = _unpack(weights, num_classes)
        loss = score(val @ kernel + bias, val_labels)
        waited += 1
        if best is None or loss < best[0]:
            best, waited = (loss, l2, weights.copy()), 0
        if on_progress:
            on_progress(len(L2_GRID) if waited == PATIENCE else done, len(L2_GRID))
        if waited == PATIENCE:
            break
    assert best is not None
    loss, l2, weights = best
    kernel, bias = _unpack(weights, num_classes)
    # Standardisation folded into the weights: the head takes raw features.
    kernel = kernel / scale[:, None]
    return Probe(kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32), l2, loss)


def _objective(weights: np.ndarray, features: np.ndarray, targets: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
    """Returns (mean weighted cross-entropy + l2 |kernel|² / 2, its gradient)."""
    num = len(features)
    kernel, bias = _unpack(weights, targets.shape[1])
    logits = features @ kernel + bias
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    residual = np.exp(log_probabilities) * targets.sum(axis=1, keepdims=True) - targets
    fit_loss = -np.sum(targets * log_probabilities, dtype=np.float64) / num
    loss = fit_loss + l2 / 2 * np.sum(np.square(kernel), dtype=np.float64)
    gradient = np.concatenate([features.T @ residual / num + l2 * kernel, residual.mean(axis=0)[None]])
    return float(loss), gradient.ravel().astype(np.float64)


def _unpack(weights: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = weights.reshape(-1, num_classes).astype(np.float32)
    return matrix[:-1], matrix[-1]
