"""Which images train, which choose the winner, which are kept for the report: by content, not by position.

An image's place is u = hash(seed, its sha256) in [0, 1), and each split owns an interval of it:

    0 ≤ test < t ≤ validation < t + v ≤ train < 1

So adding or renaming images moves no other image, and identical images stay together. Near-duplicates go where the
smallest sha256 among them does: an image moves when a near-duplicate of it arrives that has a smaller one, as no rule
could keep both where they were and together. Every class gets its share only on average; where chance leaves a class
without a split, the smallest repair is made: the interval is widened for this class until it holds one image (the
nearest, from train where it has two). Such an image alone may move when more images of its class arrive, and only
classes of less than a few dozen images ever have one: a split of 10 % misses a class of 50 images once in 200 cases.

What the data says itself stands. It may bring train and test only (validation is carved out of train),
or train and validation only (test is). A copy, or nearly, of a training image is not counted in its evaluation: its
score would be flattery.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from job.config import SplitConfig
from job.dataset.duplicates import noted
from job.dataset.example import Row, Split, Verdict
from job.errors import ConfigError, DatasetError

_BY_NEED: Final = (Split.TRAIN, Split.VALIDATION, Split.TEST)
"""The order in which a small class gets its images, and in which a split keeps its copy of an image in several."""

Shares = Mapping[Split, float]
"""Share of each split that is drawn by hash; sums to 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to chance.

    Attributes:
        pool: What the data says of the rows that are drawn: nothing (None) or train.
        shares: Of the splits they are drawn into.
        note: For the report: what was done.
    """

    pool: Split | None
    shares: Shares
    note: str


def plan(rows: Sequence[Row], fractions: SplitConfig) -> Plan:
    """Returns how the usable rows are to be split.

    Raises:
        DatasetError: When the data brings splits, but no train.
        ConfigError: When the fractions leave train or validation without a share.
    """
    given = {row.split for row in rows if row.verdict is Verdict.OK}
    if None in given:
        shares = _shares(fractions, (Split.VALIDATION, Split.TEST))
        kept = "what the data leaves open was" if len(given) > 1 else "the data brings no split;"
        return Plan(None, shares, f"{kept} split by content hash: {_percent(shares)}")
    if Split.TRAIN not in given:
        raise DatasetError(
            f"The data brings the splits {sorted(filter(None, given))}, but no train.",
            next_step="Add a train split, or leave the split out and the job makes one.",
        )
    missing = [split for split in (Split.VALIDATION, Split.TEST) if split not in given]
    if not missing:
        return Plan(Split.TRAIN, {Split.TRAIN: 1.0}, "the data brings all three splits")
    shares = _shares(fractions, missing)
    lacking = " and no ".join(missing)
    note = f"the data brings no {lacking}; train was split by content hash: {_percent(shares)}"
    return Plan(Split.TRAIN, shares, note)


def assign(rows: Sequence[Row], fractions: SplitConfig, seed: int) -> list[Row]:
    """Returns the rows (row i has index i) with the split of every usable one filled in.

    Where copies of an image, exact or near, lie in several given splits, train keeps its own, else validation;
    the others are left out: their split is None and a note says why.

    Args:
        fractions: Shares of the splits that the data does not bring; only their ratio counts.
        seed: Another seed is another split.

    Raises:
        DatasetError: When a class has no training image, or a split would be empty.
        ConfigError: When the fractions leave train or validation without a share.
    """
    todo = plan(rows, fractions)
    rows, left_out = _without_leaks(rows)
    used = [row for row in rows if row.verdict is Verdict.OK and row.index not in left_out]
    drawn = [row for row in used if row.split is todo.pool]
    places = {row.content: place(row.content, seed) for row in drawn}
    splits = {content: by_hash(u, todo.shares) for content, u in places.items()}
    present: dict[str, set[Split]] = defaultdict(set)
    for row in used:
        if row.split is not None and row.split is not todo.pool:
            present[row.label].add(row.split)
    _repair(drawn, splits, places, present, todo.shares)
    for row in drawn:
        rows[row.index] = dataclasses.replace(row, split=splits[row.content])
    _check(rows, todo.shares)
    _check_evaluation(rows, left_out)
    return rows


def place(sha256: str, seed: int) -> float:
    """Returns u in [0, 1) of an image: the same for every copy of it, independent between seeds."""
    digest = hashlib.blake2b(sha256.encode("ascii"), key=seed.to_bytes(8, "little"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def by_hash(u: float, shares: Shares) -> Split:
    """Returns the split whose interval holds u."""
    edge = 0.0
    for split in (Split.TEST, Split.VALIDATION):
        edge += shares.get(split, 0.0)
        if u < edge:
            return split
    return Split.TRAIN


def _shares(fractions: SplitConfig, carved: Collection[Split]) -> Shares:
    wanted = {Split.TRAIN: fractions.train, Split.VALIDATION: fractions.validation, Split.TEST: fractions.test}
    for split in (Split.TRAIN, Split.VALIDATION):
        if wanted[split] == 0 and (split is Split.TRAIN or split in carved):
            raise ConfigError(
                f"data.split.{split} is 0, and the data brings no {split} split of its own; allowed is above 0 to 1.",
                next_step=f"Set data.split.{split}, for example to 0.1.",
            )
    chosen = {split: share for split, share in wanted.items() if split is Split.TRAIN or split in carved}
    total = sum(chosen.values())
    return {split: share / total for split, share in chosen.items() if share > 0}


def _percent(shares: Shares) -> str:
    return ", ".join(f"{split} {share:.1%}" for split, share in shares.items())


def _without_leaks(rows: Sequence[Row]) -> tuple[list[Row], dict[int, Split]]:
    """Keeps an image's copies in one split: undecided ones join it, those elsewhere are left out (index → of what)."""
    kept: dict[str, Row] = {}
    for row in rows:
        if row.verdict is Verdict.OK and row.split is not None:
            first = kept.setdefault(row.content, row)
            if first.split is not None and _BY_NEED.index(row.split) < _BY_NEED.index(first.split):
                kept[row.content] = row
    found = list(rows)
    left_out: dict[int, Split] = {}
    for row in rows:
        best = kept.get(row.content) if row.verdict is Verdict.OK else None
        if best is None or row.split is best.split:
            continue
        if row.split is None:
            found[row.index] = dataclasses.replace(row, split=best.split)
        else:
            same = "the same image" if row.sha256 == best.sha256 else "nearly the same image"
            without = noted(row, f"left out of {row.split}: {same} is {best.uri} in {best.split}")
            found[row.index] = dataclasses.replace(without, split=None)
            left_out[row.index] = row.split
    return found, left_out


def _repair(
    drawn: Sequence[Row],
    splits: dict[str, Split],
    places: Mapping[str, float],
    present: Mapping[str, Collection[Split]],
    shares: Shares,
) -> None:
    """Moves as few images as possible so that every class has what it can have of each split.

    Args:
        splits: `Row.content` → split by hash; changed in place.
        present: Class → splits that the data itself fills.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    for row in drawn:
        classes[row.label].add(row.content)
        labels[row.content].add(row.label)
    for label, images in classes.items():
        # An image under two labels is left where it is: moving it for one class would move it for the other.
        movable = sorted(image for image in images if len(labels[image]) == 1)
        for wanted in _BY_NEED:
            is_filled = wanted in present.get(label, ()) or any(splits[image] is wanted for image in images)
            if wanted not in shares or is_filled:
                continue
            for donor in _donors(images, splits, wanted, present.get(label, ())):
                near = [image for image in movable if splits[image] is donor]
                if near:
                    nearest_image = min(near, key=lambda image: _distance(places[image], wanted, shares))
                    splits[nearest_image] = wanted
                    break


def _donors(
    images: Collection[str], splits: Mapping[str, Split], wanted: Split, present: Collection[Split]
) -> list[Split]:
    """Returns the splits that can give an image away: those that keep one, and for train's sake any."""
    counts = {split: sum(splits[image] is split for image in images) for split in _BY_NEED}
    rich = [split for split in _BY_NEED if counts[split] and counts[split] + (split in present) > 1]
    return rich or ([split for split in _BY_NEED if counts[split]] if wanted is Split.TRAIN else [])


def _distance(u: float, wanted: Split, shares: Shares) -> float:
    test, validation = shares.get(Split.TEST, 0.0), shares.get(Split.VALIDATION, 0.0)
    start, end = {
        Split.TEST: (0.0, test),
        Split.VALIDATION: (test, test + validation),
        Split.TRAIN: (test + validation, 1.0),
    }[wanted]
    return max(start - u, u - end, 0.0)


def _check(rows: Sequence[Row], shares: Shares) -> None:
    usable = [row for row in rows if row.verdict is Verdict.OK]
    used = {split: {row.label for row in usable if row.split is split} for split in Split}
    labels = {row.label for row in usable}
    untrained = sorted(labels - used[Split.TRAIN])
    if untrained:
        raise DatasetError(
            f"The class {untrained[0]!r} has no training image"
            + (f", nor have {len(untrained) - 1} other classes" if len(untrained) > 1 else "")
            + "; all its images are in other splits or copies of images there.",
            next_step="Add training images of the class, or remove it from the other splits.",
        )
    empty = [split for split in shares if not used[split]]
    if empty:
        raise DatasetError(
            f"The {empty[0]} split would be empty: {len(rows)} images in {len(labels)} classes are too few.",
            next_step="Add images: 3 different ones a class are enough for every split to have one. Those that look "
            "the same count as one; data.near_duplicates=false counts all that are not equal.",
        )


def _check_evaluation(rows: Sequence[Row], left_out: Mapping[int, Split]) -> None:
    used = {row.split for row in rows}
    for split in (Split.VALIDATION, Split.TEST):
        lost = [rows[index] for index, was in left_out.items() if was is split]
        if lost and split not in used:
            raise DatasetError(
                f"Nothing is left of the {split} split: all its {len(lost)} images are copies, or nearly, of images in "
                f"other splits. The first: {lost[0].uri}, {lost[0].notes}.",
                next_step=f"Give the {split} split images of its own, or leave it out and the job makes one.",
            )
