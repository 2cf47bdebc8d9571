"""What the exported model says about an image, and the files such answers are written to."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from job.errors import UsageError


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best classes of one image, or why there are none.

    Attributes:
        uri: Names the image.
        classes: The best first; empty where there is an error.
        scores: Their calibrated probabilities, 0..1.
        error: Why the image has no prediction; "" otherwise.
    """

    uri: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""


def write(predictions: Iterable[Prediction], path: Path, *, top: int) -> tuple[int, int]:
    """Writes predictions as they come to a .csv or .jsonl file; the name appears when it is complete.

    CSV: uri, class_1, probability_1, … class_<top>, probability_<top>, error. JSONL: one object an image,
    {"uri", "predictions": [{"class", "probability"}]} or {"uri", "error"}.

    Args:
        predictions: Read once.
        path: Its extension decides the form.
        top: Classes an image in the CSV; shorter answers leave cells empty.

    Returns:
        (images with a prediction, images with an error).

    Raises:
        UsageError: When the extension is neither.
    """
    check_form(path)
    partial = path.with_name(f".{path.name}.partial")
    counts = [0, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            lines: _CsvLines | _JsonLines
            lines = _CsvLines(file, top) if path.suffix.lower() == ".csv" else _JsonLines(file)
            for one in predictions:
                lines.write(one)
                counts[bool(one.error)] += 1
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return counts[0], counts[1]


def check_form(path: Path) -> None:
    """Raises UsageError unless the extension is .csv or .jsonl; to be called before any work."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(
            f"Predictions cannot be written to {path.name}: the extension is {path.suffix or 'missing'}; "
            ".csv and .jsonl are possible.",
            next_step="Name the output predictions.csv or predictions.jsonl.",
        )


class _CsvLines:
    def __init__(self, file: IO[str], top: int) -> None:
        self._top = top
        self._writer = csv.writer(file, lineterminator="\n")
        pairs = [name for rank in range(1, top + 1) for name in (f"class_{rank}", f"probability_{rank}")]
        self._writer.writerow(["uri", *pairs, "error"])

    def write(self, one: Prediction) -> None:
        cells = [""] * (2 * self._top)
        for rank, (name, score) in enumerate(list(zip(one.classes, one.scores, strict=True))[: self._top]):
            cells[2 * rank : 2 * rank + 2] = [name, f"{score:.6f}"]
        self._writer.writerow([one.uri, *cells, one.error])


class _JsonLines:
    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, one: Prediction) -> None:
        found: dict[str, object] = {"uri": one.uri}
        if one.error:
            found["error"] = one.error
        else:
            pairs = zip(one.classes, one.scores, strict=True)
            found["predictions"] = [{"class": name, "probability": round(score, 6)} for name, score in pairs]
        self._file.write(json.dumps(found, ensure_ascii=False) + "\n")
