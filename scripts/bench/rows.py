"""The table of `all`: what was measured, what it is held against, and whether it reaches what it must. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Limit:
    """What a row must reach.

    Attributes:
        of: "ratio" is ours over the yardstick, "excess" ours less the yardstick, "value" ours alone.
        at_least: Whether `value` is the smallest allowed; otherwise it is the largest.
    """

    of: Literal["ratio", "excess", "value"]
    value: float
    at_least: bool = False

    def holds(self, found: float) -> bool:
        return found >= self.value if self.at_least else found <= self.value

    def describe(self, unit: str) -> str:
        sign = "≥" if self.at_least else "≤"
        shown = f"{sign} {self.value:g}"
        return {
            "ratio": f"{shown} x",
            "excess": f"{shown} {unit} more".rstrip(),
            "value": f"{shown} {unit}".rstrip(),
        }[self.of]


@dataclass(frozen=True)
class Row:
    """One thing that was measured, and its yardstick in the same rounds.

    Attributes:
        stage: A row of the issue's table: "pull", "feed" and so on.
        name: What is compared.
        unit: Of both sides: "s", "images/s", "MB".
        ours: One value a round.
        yardstick: One value a round, or none.
        limit: None where the row is only for information.
        note: Sizes, and what a reader must know.
    """

    stage: str
    name: str
    unit: str
    ours: tuple[float, ...]
    yardstick: tuple[float, ...] = ()
    limit: Limit | None = None
    note: str = ""

    def __post_init__(self) -> None:
        assert self.ours, f"{self.name}: nothing was measured"
        if self.yardstick:
            assert len(self.ours) == len(self.yardstick), f"{self.name}: rounds without a yardstick"
        else:
            assert self.limit is None or self.limit.of == "value", f"{self.name}: there is no yardstick"

    @property
    def ratio(self) -> float | None:
        """Median over rounds of ours / yardstick: what slows a whole round falls out of it."""
        if not self.yardstick:
            return None
        return statistics.median(a / b for a, b in zip(self.ours, self.yardstick, strict=True))

    @property
    def judged(self) -> float | None:
        """The figure that the limit is about."""
        if self.limit is None:
            return None
        if self.limit.of == "ratio":
            return self.ratio
        if self.limit.of == "excess":
            return statistics.median(a - b for a, b in zip(self.ours, self.yardstick, strict=True))
        return statistics.median(self.ours)

    @property
    def is_met(self) -> bool | None:
        """None where nothing is required."""
        return None if self.limit is None or self.judged is None else self.limit.holds(self.judged)

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "name": self.name,
            "unit": self.unit,
            "ours": list(self.ours),
            "yardstick": list(self.yardstick),
            "limit": None if self.limit is None else vars(self.limit),
            "note": self.note,
            "ratio": self.ratio,
            "judged": self.judged,
            "is_met": self.is_met,
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Row:
        """Returns the row; what follows from its values is worked out again."""
        return cls(
            stage=said["stage"],
            name=said["name"],
            unit=said["unit"],
            ours=tuple(said["ours"]),
            yardstick=tuple(said["yardstick"]),
            limit=None if said["limit"] is None else Limit(**said["limit"]),
            note=said["note"],
        )


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table, a row's figures as medians over its rounds."""
    lines = ["| stage | measured | ours | yardstick | ratio | must be | | note |", "|---|---|---|---|---|---|---|---|"]
    stage = ""
    for row in rows:
        theirs = f"{number(statistics.median(row.yardstick))} {row.unit}".strip() if row.yardstick else ""
        verdict = {None: "", True: "met", False: "**NOT MET**"}[row.is_met]
        cells = (
            "" if row.stage == stage else row.stage,
            row.name,
            f"{number(statistics.median(row.ours))} {row.unit}".strip(),
            theirs,
            "" if row.ratio is None else f"{row.ratio:.3g}",
            "" if row.limit is None else row.limit.describe(row.unit),
            verdict,
            row.note,
        )
        lines.append(f"| {' | '.join(cells)} |")
        stage = row.stage
    return "\n".join(lines)


def number(value: float) -> str:
    """Returns three figures at most, without an exponent from a thousandth to a trillion."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
