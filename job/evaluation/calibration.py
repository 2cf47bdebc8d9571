"""Whether a probability means what it says, and the one number (temperature) that makes it so. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.integer[Any]]

COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence against accuracy, in equal-width bins of the confidence (probability of the best class).

    Attributes:
        confidence: float64 [D], mean confidence of the images in a bin; 0 where the bin is empty.
        accuracy: float64 [D], share of them that is right; 0 where the bin is empty.
        counts: int64 [D], images in a bin. Bin d holds confidences in (d / D, (d + 1) / D].
    """

    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @property
    def ece(self) -> float:
        """The expected calibration error: mean gap between confidence and accuracy over images, 0..1."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.counts).sum() / self.counts.sum())


def log_probabilities(logits: Float) -> npt.NDArray[np.float64]:
    """Returns the log softmax of the rows: float64 [N, K], exact however large the logits are."""
    wide = np.asarray(logits, np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    logs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def reliability(logits: Float, labels: Int, *, bins: int = 15) -> Reliability:
    """Returns confidence against accuracy in `bins` equal-width bins.

    Args:
        logits: float32 [N, K], already divided by the temperature.
        labels: int32 [N].
        bins: At least 1; 15 as in the source.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, section 2 (equal width, M = 15).
    """
    logs = log_probabilities(logits)
    confidence = np.exp(logs.max(axis=1))
    right = np.argmax(logs, axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins).astype(np.int64)
    some = np.maximum(counts, 1)
    return Reliability(
        confidence=np.bincount(bin_of, confidence, minlength=bins) / some,
        accuracy=np.bincount(bin_of, right, minlength=bins) / some,
        counts=counts,
    )


def expected_calibration_error(logits: Float, labels: Int, *, bins: int = 15) -> float:
    """Returns the ECE, 0..1, of `reliability`."""
    return reliability(logits, labels, bins=bins).ece


def fit_temperature(logits: Float, labels: Int, *, prior: float = 1.0) -> float:
    """Returns the temperature T in 0.05..20 under which softmax(logits / T) has the least log loss.

    Plain maximum likelihood sends T to 0 where every image is classified right, which small validation sets often
    are, and the first mistake in use then costs without bound. So a Gamma prior on 1/T with its mode at T = 1 is
    added; it weighs as much as `prior` images, and vanishes as N grows. The sum is strictly convex in 1/T, so
    Newton's method inside a bracket finds its only minimum.

    Args:
        logits: float32 [N, K], finite, of the validation split. N = 0 gives 1.
        labels: int32 [N].
        prior: Strength in images, >= 0. 0 is maximum likelihood as in the source.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2 (temperature scaling).
    """
    if len(labels) == 0:
        return 1.0
    # Shifting a row changes no probability; with the maximum at 0 nothing overflows.
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    weight = prior / len(labels)
    low, high, inverse = 1.0 / HOTTEST, 1.0 / COLDEST, 1.0
    for _ in range(200):
        slope, curve = _derivatives(shifted, own, inverse)
        slope += weight * (1.0 - 1.0 / inverse)
        curve += weight / inverse**2
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curve if curve > 0 else np.inf
        # Halving in the logarithm: the bracket spans a factor of 400.
        following = float(step) if low < step < high else float(np.sqrt(low * high))
        if abs(following - inverse) <= 1e-10 * inverse:
            break
        inverse = following
    return float(np.clip(1.0 / inverse, COLDEST, HOTTEST))


def calibrated_log_loss(logits: Float, labels: Int) -> float:
    """Returns the mean log loss, nats, at the temperature that fits these logits best: what would be served."""
    scaled = log_probabilities(logits / fit_temperature(logits, labels))
    return float(-scaled[np.arange(len(labels)), labels].mean())


def _derivatives(shifted: Float, own: Float, inverse: float) -> tuple[float, float]:
    """Returns the first and second derivative of the mean log loss by 1/T: E[z] - z_label, and Var[z]."""
    weights = np.exp(shifted * inverse)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * shifted).sum(axis=1)
    square = (weights * shifted**2).sum(axis=1)
    return float((mean - own).mean()), float((square - mean**2).mean())
