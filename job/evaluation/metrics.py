"""The numbers a classifier is judged by, and how sure they are. Pure numpy.

Everything takes logits, not probabilities, so that log loss stays exact where a probability would round to 0.
Ties between logits go to the lower class index, as `argmax` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from job.evaluation.calibration import expected_calibration_error, log_probabilities

Float = npt.NDArray[np.floating[Any]]
Int = npt.NDArray[np.integer[Any]]

# Numbers drawn at a time by the bootstrap: 32 MiB of int64, whatever N and the number of resamples.
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How one class does. A ratio without a denominator (never predicted, never present) is 0.

    Attributes:
        precision: Of the images given this class, the share that is right, 0..1.
        recall: Of the images of this class, the share that is found, 0..1.
        f1: Harmonic mean of both, 0..1.
        support: Images of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How a classifier does on one set of images.

    Attributes:
        accuracy: Share of images whose best class is right, 0..1.
        top_k_accuracy: Share of images whose class is among the k best, 0..1.
        k: At most the number of classes.
        log_loss: Mean of -ln(probability of the right class), nats.
        macro_f1: Mean F1 over the classes that have images here, 0..1.
        ece: Expected calibration error, 0..1; 15 equal-width bins.
        per_class: One entry a class, in label order.
        confusion: int64 [K, K]; row = true class, column = predicted class.
        num_images: N.
    """

    accuracy: float
    top_k_accuracy: float
    k: int
    log_loss: float
    macro_f1: float
    ece: float
    per_class: tuple[ClassScores, ...]
    confusion: npt.NDArray[np.int64]
    num_images: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists and numbers, ready for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["per_class"] = [asdict(one) for one in self.per_class]
        plain["confusion"] = self.confusion.tolist()
        return plain


@dataclass(frozen=True, slots=True)
class Gain:
    """What one classifier adds over another on the same images; above 0 is better.

    Attributes:
        mean: The difference on the images themselves.
        low: Lower end of the paired bootstrap's 95 % interval.
        high: Upper end of it.
        within_noise: Whether the interval includes 0.
    """

    mean: float
    low: float
    high: float
    within_noise: bool


@dataclass(frozen=True, slots=True)
class Gains:
    """The gain in log loss (nats saved an image) and in accuracy (share of images)."""

    log_loss: Gain
    accuracy: Gain


def score(logits: Float, labels: Int, *, top_k: int = 5, temperature: float = 1.0) -> Scores:
    """Scores a classifier on labelled images.

    Args:
        logits: float32 [N, K], finite; K >= 2.
        labels: int32 [N], 0..K-1; N >= 1.
        top_k: k of the top-k accuracy, >= 1; cut to K.
        temperature: Logits are divided by it first, above 0. Changes log loss and ECE only.
    """
    _check(logits, labels)
    num_images, num_classes = logits.shape
    k = min(top_k, num_classes)
    predicted = np.argmax(logits, axis=1)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits, support = np.diagonal(confusion), confusion.sum(axis=1)
    precision, recall = _ratio(hits, confusion.sum(axis=0)), _ratio(hits, support)
    f1 = _ratio(2 * hits, confusion.sum(axis=0) + support)
    scaled = np.asarray(logits, np.float64) / temperature
    return Scores(
        accuracy=float(hits.sum() / num_images),
        top_k_accuracy=float(np.mean(_in_top_k(logits, labels, k))),
        k=k,
        log_loss=float(np.mean(losses(scaled, labels))),
        macro_f1=float(np.mean(f1[support > 0])),
        ece=expected_calibration_error(scaled, labels),
        per_class=tuple(
            ClassScores(float(p), float(r), float(f), int(s))
            for p, r, f, s in zip(precision, recall, f1, support, strict=True)
        ),
        confusion=confusion,
        num_images=num_images,
    )


def losses(logits: Float, labels: Int) -> npt.NDArray[np.float64]:
    """Returns each image's log loss, -ln(probability of its class): float64 [N], nats."""
    picked: npt.NDArray[np.float64] = log_probabilities(logits)[np.arange(len(labels)), labels]
    return -picked


def confidence_intervals(
    logits: Float, labels: Int, *, resamples: int, seed: int, top_k: int = 5
) -> dict[str, tuple[float, float]]:
    """Returns the 95 % intervals of accuracy, top_k_accuracy, log_loss and macro_f1.

    Log loss and F1: the percentile bootstrap. F1 depends on the images only through counts, and the counts of a
    resample are multinomial, so they are drawn directly: K^2 numbers a resample at most, not N. The two
    accuracies: Wilson's interval, because the bootstrap of a share is that binomial and no more, except that it
    collapses to [1, 1] where all images are right, which small test splits often are.

    Args:
        logits: float32 [N, K]; divide by the temperature first where the calibrated log loss is wanted.
        labels: int32 [N].
        resamples: At least 1; 1000 gives the ends to about a tenth of the interval's width.
        seed: The same seed gives the same intervals.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile interval).
    Source: Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, 2001, section 3.1.1 (Wilson).
    """
    _check(logits, labels)
    rng = np.random.default_rng(seed)
    num_images = len(labels)
    predicted = np.argmax(logits, axis=1)
    loss = losses(logits, labels)
    return {
        "accuracy": _wilson(int(np.count_nonzero(predicted == labels)), num_images),
        "top_k_accuracy": _wilson(
            int(np.count_nonzero(_in_top_k(logits, labels, min(top_k, logits.shape[1])))), num_images
        ),
        "log_loss": _interval(
            np.concatenate([loss[chunk].mean(axis=1) for chunk in _resampled(num_images, resamples, rng)])
        ),
        "macro_f1": _interval(_resampled_macro_f1(labels, predicted, logits.shape[1], resamples, rng)),
    }


def paired_gain(logits_a: Float, logits_b: Float, labels: Int, *, resamples: int, seed: int) -> Gains:
    """Returns what b gains over a: each resample takes the same images for both, so their common luck cancels.

    Args:
        logits_a: float32 [N, K], of the one compared with; already divided by its temperature.
        logits_b: float32 [N, K], of the one whose gain it is.
        labels: int32 [N].
        resamples: At least 1.
        seed: The same seed gives the same intervals.

    Source: Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004, section 4.
    """
    _check(logits_a, labels)
    _check(logits_b, labels)
    loss = losses(logits_a, labels) - losses(logits_b, labels)
    hits = (np.argmax(logits_b, axis=1) == labels).astype(np.float64) - (np.argmax(logits_a, axis=1) == labels)
    both = np.stack([loss, hits], axis=1)
    rng = np.random.default_rng(seed)
    means = np.concatenate([both[chunk].mean(axis=1) for chunk in _resampled(len(labels), resamples, rng, width=2)])
    gains = [_gain(float(both[:, column].mean()), _interval(means[:, column])) for column in (0, 1)]
    return Gains(log_loss=gains[0], accuracy=gains[1])


def _gain(mean: float, interval: tuple[float, float]) -> Gain:
    return Gain(mean, *interval, within_noise=interval[0] <= 0.0 <= interval[1])


def _interval(values: Float) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _wilson(hits: int, num_images: int, z: float = 1.959964) -> tuple[float, float]:
    share, weight = hits / num_images, z * z / num_images
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * float(np.sqrt(share * (1 - share) / num_images + weight / (4 * num_images)))
    return max(0.0, middle - half), min(1.0, middle + half)


def _resampled(
    num_images: int, resamples: int, rng: np.random.Generator, *, width: int = 1
) -> Iterator[npt.NDArray[np.int64]]:
    """Yields indices int64 [R, N] drawn with replacement, few rows at a time, `resamples` rows in all."""
    rows = max(1, _CHUNK // (num_images * width))
    for start in range(0, resamples, rows):
        yield rng.integers(0, num_images, (min(rows, resamples - start), num_images))


def _resampled_macro_f1(
    labels: Int, predicted: Int, num_classes: int, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    cells, counts = np.unique(np.asarray(labels, np.int64) * num_classes + predicted, return_counts=True)
    true, guess = np.divmod(cells, num_classes)
    # [P, K] marks of which class a (true, predicted) cell counts for.
    of_true, of_guess = np.eye(num_classes)[true], np.eye(num_classes)[guess]
    found = []
    rows = max(1, _CHUNK // max(len(cells), num_classes))
    for start in range(0, resamples, rows):
        drawn = rng.multinomial(len(labels), counts / len(labels), min(rows, resamples - start)).astype(np.float64)
        support = drawn @ of_true
        f1 = _ratio(2 * (drawn * (true == guess)) @ of_true, support + drawn @ of_guess)
        found.append((f1 * (support > 0)).sum(axis=1) / (support > 0).sum(axis=1))
    return np.concatenate(found)


def _in_top_k(logits: Float, labels: Int, k: int) -> npt.NDArray[np.bool_]:
    """Returns bool [N]: fewer than k classes lie before the label, in the order of argmax."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    before: npt.NDArray[np.bool_] = ((logits > own) | ((logits == own) & earlier)).sum(axis=1) < k
    return before


def _ratio(above: Float | Int, below: Float | Int) -> npt.NDArray[np.float64]:
    above = np.asarray(above, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _check(logits: Float, labels: Int) -> None:
    assert logits.ndim == 2, f"logits are [N, K], got {logits.shape}"
    assert labels.shape == (logits.shape[0],), f"labels are [N], got {labels.shape} for logits {logits.shape}"
    assert logits.shape[0] >= 1, "scores need at least one image"
    assert logits.shape[1] >= 2, "scores need at least two classes"
    assert np.isfinite(logits).all(), "logits are finite"
    assert labels.min() >= 0, "labels start at 0"
    assert labels.max() < logits.shape[1], "labels end at K-1"
