"""What the presets promise against the textbook, and whether measurements keep it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from measuring import Measurement


@dataclass(frozen=True)
class Claim:
    """A preset reaches an accuracy within a share of the textbook's seconds."""

    preset: str
    accuracy: float
    share: float


CLAIMS = (Claim("balanced", 0.95, 1.0), Claim("fast", 0.95, 0.25))


@dataclass(frozen=True)
class Verdict:
    """A claim on one seed, by the medians over its repeats."""

    claim: Claim
    seed: int
    accuracy: float
    share: float

    @property
    def is_met(self) -> bool:
        return self.accuracy >= self.claim.accuracy and self.share <= self.claim.share

    def __str__(self) -> str:
        return (
            f"{'met    ' if self.is_met else 'NOT MET'}  {self.claim.preset}, seed {self.seed}: accuracy "
            f"{self.accuracy:.4f} (claimed {self.claim.accuracy:.2f}) in {self.share:.2f} of the textbook's time "
            f"(claimed at most {self.claim.share:.2f})"
        )


def judge(measurements: Sequence[Measurement]) -> list[Verdict]:
    """Returns a verdict for each claim and seed that was measured."""
    found = []
    for claim in CLAIMS:
        for seed in sorted({one.seed for one in measurements}):
            ours, theirs = _of(measurements, claim.preset, seed), _of(measurements, "textbook", seed)
            if ours and theirs:
                share = _seconds(ours) / _seconds(theirs)
                found.append(Verdict(claim, seed, statistics.median(one.accuracy for one in ours), share))
    return found


def _of(measurements: Sequence[Measurement], name: str, seed: int) -> list[Measurement]:
    return [one for one in measurements if (one.name, one.seed) == (name, seed)]


def _seconds(measurements: Sequence[Measurement]) -> float:
    return statistics.median(one.seconds for one in measurements)
