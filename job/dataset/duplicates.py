"""Which images of a dataset are there twice: byte for byte, or as near-duplicates (`likeness.py`).

All copies of an image form a group, named by the smallest SHA-256 among them, whatever their order and labels.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from job.dataset import likeness
from job.dataset.cores import num_cores
from job.dataset.decode import decode
from job.dataset.example import Row, Verdict
from job.dataset.reading import Reader, UnreadableRecordError

_AT_ONCE: Final = 256
"""Proposed pairs whose pictures are in memory at a time: at most 2 * 256 * 128 * 128 * 3 bytes, 25 MB."""
_MAX_REFUSALS: Final = 8
"""Pairs of an image that the pixels may refuse before the rest is not looked at: thousands of pictures by one fixed
camera propose each other, and none of them is another."""


def grouped(
    rows: Sequence[Row], hashes: Mapping[str, str], reader: Reader, *, on_look: Callable[[], None] = lambda: None
) -> list[Row]:
    """Returns the rows with every copy noted, and the group of each usable one that has near-duplicates.

    Args:
        rows: Row i has index i.
        hashes: SHA-256 → perceptual hash of each usable image; empty to look for exact copies alone.
        reader: Gives the files of proposed pairs, which are decoded a second time.
        on_look: Called now and then; what it raises ends the search.
    """
    same: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.verdict is Verdict.OK:
            same[row.sha256].append(row)
    groups = _Groups()
    _join_near([copies[0] for copies in same.values()], hashes, reader, groups, on_look)
    alike: dict[str, list[str]] = defaultdict(list)
    for sha256 in same:
        alike[groups.of(sha256)].append(sha256)
    found = list(rows)
    for members in alike.values():
        if len(members) == len(same[members[0]]) == 1:  # As nearly all are.
            continue
        copies = sorted((row for sha256 in members for row in same[sha256]), key=lambda row: row.index)
        group = min(members) if len(members) > 1 else ""
        for row in copies:
            found[row.index] = dataclasses.replace(_noted(row, same[row.sha256][0], copies[0]), group=group)
    return found


def noted(row: Row, note: str) -> Row:
    """Returns the row with one more note."""
    return dataclasses.replace(row, notes=f"{row.notes}; {note}" if row.notes else note)


def _noted(row: Row, first_copy: Row, first: Row) -> Row:
    for kind, other in (("duplicate", first_copy), ("near-duplicate", first)):
        if row.index != other.index and (kind == "duplicate" or row.sha256 != other.sha256):
            conflict = "" if row.label == other.label else f", which is labelled {other.label!r}"
            row = noted(row, f"{kind} of {other.uri}{conflict}")
    return row


class _Groups:
    """Sets that are joined (union-find); the smallest member stands for its set."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def of(self, member: str) -> str:
        root = member
        while (parent := self._parents.get(root, root)) != root:
            root = parent
        while member != root:
            self._parents[member], member = root, self._parents.get(member, root)
        return root

    def join(self, one: str, other: str) -> None:
        small, large = sorted((self.of(one), self.of(other)))
        self._parents[large] = small


def _join_near(
    images: Sequence[Row], hashes: Mapping[str, str], reader: Reader, groups: _Groups, on_look: Callable[[], None]
) -> None:
    """Joins the groups of different files that show the same."""
    # By content, so that the answer does not depend on the names or the order of the files.
    ordered = sorted((row for row in images if hashes.get(row.sha256)), key=lambda row: row.sha256)
    proposed = likeness.proposals(np.array([likeness.coarse(hashes[row.sha256]) for row in ordered], np.uint64))
    refusals: Counter[str] = Counter()
    with ThreadPoolExecutor(num_cores(), thread_name_prefix="duplicates") as pool:
        for start in range(0, len(proposed), _AT_ONCE):
            on_look()
            pairs = [(ordered[i], ordered[j]) for i, j in proposed[start : start + _AT_ONCE].tolist()]
            pairs = [
                (one, other)
                for one, other in pairs
                if likeness.is_finely_alike(hashes[one.sha256], hashes[other.sha256])
                and _is_worth_a_look(one, other, groups, refusals)
            ]
            wanted = {row.sha256: row for pair in pairs for row in pair}
            pictures = dict(zip(wanted, pool.map(lambda row: _picture(row, reader), wanted.values()), strict=True))
            looks = pool.map(_is_same, *([pictures[pair[side].sha256] for pair in pairs] for side in (0, 1)))
            for (one, other), is_same in zip(pairs, looks, strict=True):
                if is_same:
                    groups.join(one.sha256, other.sha256)
                else:
                    refusals.update((one.sha256, other.sha256))


def _is_worth_a_look(one: Row, other: Row, groups: _Groups, refusals: Counter[str]) -> bool:
    return (
        groups.of(one.sha256) != groups.of(other.sha256)
        and max(refusals[one.sha256], refusals[other.sha256]) < _MAX_REFUSALS
        and likeness.has_same_shape((one.width_px, one.height_px), (other.width_px, other.height_px))
    )


def _is_same(one: likeness.Picture | None, other: likeness.Picture | None) -> bool:
    return one is not None and other is not None and likeness.is_same(one, other)


def _picture(row: Row, reader: Reader) -> likeness.Picture | None:
    """Returns what is compared of a usable image; None where it has become unreadable since it was surveyed."""
    try:
        image = decode(reader.read(row.uri), row.uri, stored_px=likeness.PICTURE_PX[0]).image
    except (OSError, UnreadableRecordError):
        return None
    return None if image is None else likeness.picture(image)
