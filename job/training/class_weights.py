"""How much each class weighs in the loss."""

from __future__ import annotations

import numpy as np


def class_weights(labels: np.ndarray, num_classes: int, how: str) -> np.ndarray:
    """Returns float32 [K]: ones, or ("balanced") inverse to each class's count with mean 1 over the examples.

    Args:
        labels: int32 [N] of the training examples.
    """
    if how == "none":
        return np.ones(num_classes, np.float32)
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * np.maximum(counts, 1))).astype(np.float32)
