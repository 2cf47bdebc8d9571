"""Which of the trained candidates is shipped, and why. Pure: the same numbers give the same choice.

The best on validation by log loss is shipped, each candidate measured at its own fitted temperature, because that
is what the exported model serves: a candidate must not lose for being over-confident in a way that calibration
repairs. Log loss decides and not accuracy: on few images accuracy moves in steps of 1/N and ties are common. All
candidates serve at the same cost, so nothing but an exact tie speaks for the simpler. Whether a gain is more
than noise is reported beside it, by a paired bootstrap, and does not change the choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from job.errors import DivergedError
from job.evaluation import metrics
from job.evaluation.calibration import fit_temperature

# Log losses closer than this (nats) differ by float32 rounding only.
TIE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A trained model that could be shipped.

    Attributes:
        name: Of the phase it comes from: "probe", "head", "fine-tune".
        val_logits: float32 [N, K] on the validation split, uncalibrated.
        rank: 0 for the simplest; every candidate its own.
    """

    name: str
    val_logits: npt.NDArray[np.floating[Any]]
    rank: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate's result on validation, at its own temperature."""

    name: str
    temperature: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Step:
    """What the next more complex candidate (`name`) gains over the one before it (`over`)."""

    name: str
    over: str
    gains: metrics.Gains


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner and the argument for it.

    Attributes:
        winner: Index into the candidates as given.
        name: Its name.
        temperature: Its fitted temperature, to be exported.
        reason: One or two sentences for the report.
        standings: In the order of the candidates as given.
        steps: From the simplest to the most complex; one fewer than candidates.
    """

    winner: int
    name: str
    temperature: float
    reason: str
    standings: tuple[Standing, ...]
    steps: tuple[Step, ...]


def choose(
    candidates: Sequence[Candidate], labels: npt.NDArray[np.integer[Any]], *, resamples: int, seed: int
) -> Choice:
    """Chooses the candidate with the least calibrated log loss on validation; on a tie the simplest.

    Args:
        candidates: At least one, with different ranks.
        labels: int32 [N], of the validation split; N >= 1.
        resamples: Of the paired bootstrap behind each gain.
        seed: Of the bootstrap.

    Raises:
        DivergedError: When logits of a candidate are not finite. Names it.
    """
    assert candidates, "a choice needs a candidate"
    assert len({one.rank for one in candidates}) == len(candidates), "every candidate has its own rank"
    for one in candidates:
        if not np.isfinite(one.val_logits).all():
            raise DivergedError(
                f"The {one.name} model gives {np.count_nonzero(~np.isfinite(one.val_logits))} logits that are not "
                f"finite on the validation split; all {one.val_logits.size} must be.",
                next_step="Lower the learning rate of that phase, or set train.precision: float32.",
            )
    standings = [_standing(one, labels) for one in candidates]
    best = min(one.log_loss for one in standings)
    tied = [index for index, one in enumerate(standings) if one.log_loss <= best + TIE]
    winner = min(tied, key=lambda index: candidates[index].rank)
    steps = tuple(_steps(candidates, standings, labels, resamples, seed))
    return Choice(
        winner=winner,
        name=candidates[winner].name,
        temperature=standings[winner].temperature,
        reason=_reason(standings, winner, tied, steps),
        standings=tuple(standings),
        steps=steps,
    )


def _standing(candidate: Candidate, labels: npt.NDArray[np.integer[Any]]) -> Standing:
    temperature = fit_temperature(candidate.val_logits, labels)
    found = metrics.score(candidate.val_logits, labels, temperature=temperature)
    return Standing(candidate.name, temperature, found.log_loss, found.accuracy)


def _steps(
    candidates: Sequence[Candidate],
    standings: Sequence[Standing],
    labels: npt.NDArray[np.integer[Any]],
    resamples: int,
    seed: int,
) -> list[Step]:
    order = sorted(range(len(candidates)), key=lambda index: candidates[index].rank)
    calibrated = [np.asarray(one.val_logits, np.float64) / standings[i].temperature for i, one in enumerate(candidates)]
    return [
        Step(
            standings[more].name,
            standings[less].name,
            metrics.paired_gain(calibrated[less], calibrated[more], labels, resamples=resamples, seed=seed),
        )
        for less, more in itertools.pairwise(order)
    ]


def _reason(standings: Sequence[Standing], winner: int, tied: Sequence[int], steps: Sequence[Step]) -> str:
    best = standings[winner]
    numbers = f"log loss {best.log_loss:.4f}, accuracy {best.accuracy:.4f} on validation"
    others = [one for index, one in enumerate(standings) if index != winner]
    if not others:
        return f"{best.name}: the only candidate ({numbers})."
    if len(tied) > 1:
        equals = ", ".join(standings[index].name for index in tied if index != winner)
        text = f"{best.name}: the simplest of those with the lowest log loss ({numbers}), tied with {equals}."
    else:
        text = f"{best.name}: the lowest log loss ({numbers})."
    ahead = [one for one in others if one.accuracy > best.accuracy]
    if ahead:
        names = ", ".join(f"{one.name} ({one.accuracy:.4f})" for one in ahead)
        text += f" More accurate but less sure of the right class: {names}."
    noise = [f"{one.name} over {one.over}" for one in steps if one.gains.log_loss.within_noise]
    if noise:
        text += f" Within noise: {', '.join(noise)}."
    return text
