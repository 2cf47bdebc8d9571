"""What all programs of `scripts/bench/all` have in common: sizes, a scratch folder, the table and the JSON.

Each measures a few rows (`rows.py`) by itself as well: `.venv/bin/python scripts/bench/ROOM.py --quick`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rows import Row, table

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setup:
    """What a room measures with.

    Attributes:
        is_quick: Sizes that show that it runs; its figures mean little.
        folder: Empty; removed afterwards.
        data: A folder with train/CLASS and test/CLASS, or None: drawn images.
        weights: Of MobileNetV2 without its top, or None: what the demo ships, or none.
    """

    is_quick: bool
    folder: Path
    data: Path | None = None
    weights: Path | None = None

    def size(self, quick: T, full: T) -> T:
        return quick if self.is_quick else full


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path, nargs="?", metavar="DATA", help="folder with train/CLASS and test/CLASS")
    made.add_argument("weights", type=Path, nargs="?", metavar="WEIGHTS", help="MobileNetV2 without its top")
    made.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every round to this file")
    return made


def main(description: str | None, measure: Callable[[Setup], Sequence[Row]]) -> int:
    """Measures, prints the table, writes the JSON; returns 1 where a requirement is not met."""
    given = parser(description).parse_args()
    if (given.data is None) != (given.weights is None):
        raise SystemExit("DATA and WEIGHTS go together: give both, or neither.")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data, weights = (path and path.absolute() for path in (given.data, given.weights))
        rows = measure(Setup(given.quick, Path(folder), data, weights))
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    return 1 if any(row.is_met is False for row in rows) else 0
