"""Which of several factors does best on validation, and how sure that is. Pure.

Two factors are compared seed by seed and backbone by backbone: the split and the head are the same there, so that
most of what makes one validation split harder than another cancels out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CLEARLY = 2.0
"""Standard errors of the mean difference that make one factor clearly better than another."""


@dataclass(frozen=True)
class Result:
    """What the fine-tuning at one factor reached on validation.

    Attributes:
        head: Calibrated log loss of the head it started from, nats.
        finetune: The same of the fine-tuned candidate.
        wins: Whether the fine-tuned candidate was shipped.
    """

    backbone: str
    seed: int
    factor: float
    head: float
    finetune: float
    head_accuracy: float
    finetune_accuracy: float
    wins: bool


@dataclass(frozen=True)
class Comparison:
    """How much less log loss `better` has than `worse`: mean and standard error over seeds and backbones, nats."""

    better: float
    worse: float
    mean: float
    error: float

    @property
    def is_clear(self) -> bool:
        return self.mean > CLEARLY * self.error


def log_losses(results: Sequence[Result], factor: float) -> dict[tuple[str, int], float]:
    """Returns the fine-tuned log loss by (backbone, seed)."""
    return {(one.backbone, one.seed): one.finetune for one in results if one.factor == factor}


def mean_log_loss(results: Sequence[Result], factor: float) -> float:
    return statistics.mean(log_losses(results, factor).values())


def best(results: Sequence[Result]) -> float:
    """Returns the factor with the least mean log loss."""
    return min({one.factor for one in results}, key=lambda factor: mean_log_loss(results, factor))


def compare(results: Sequence[Result], better: float, worse: float) -> Comparison:
    """Compares two factors on the pairs (backbone, seed) that both were measured on; at least two."""
    ours, theirs = log_losses(results, better), log_losses(results, worse)
    gains = [theirs[pair] - ours[pair] for pair in ours if pair in theirs]
    return Comparison(better, worse, statistics.mean(gains), statistics.stdev(gains) / math.sqrt(len(gains)))
