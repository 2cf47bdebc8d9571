"""The files that predictions are written to."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import UsageError
from job.export import predictions
from job.export.predictions import Prediction

FOUND = [
    Prediction("a, b.jpg", ("ünï", "cat"), (0.75, 0.25)),
    Prediction("bad.jpg", error='cannot be decoded: "x"'),
    Prediction("c.jpg", ("cat",), (1.0,)),
]


def test_csv_has_a_row_an_image_with_errors_in_their_own_column(tmp_path: Path) -> None:
    assert predictions.write(FOUND, tmp_path / "out" / "p.csv", top=2) == (2, 1)
    with (tmp_path / "out" / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["uri"] == "a, b.jpg"
    assert rows[0]["class_1"] == "ünï"
    assert (rows[0]["probability_2"], rows[0]["error"]) == ("0.250000", "")
    assert (rows[1]["class_1"], rows[1]["error"]) == ("", 'cannot be decoded: "x"')
    assert rows[2]["class_2"] == ""


def test_jsonl_has_an_object_an_image(tmp_path: Path) -> None:
    predictions.write(FOUND, tmp_path / "p.jsonl", top=2)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["predictions"][0] == {"class": "ünï", "probability": 0.75}
    assert lines[1] == {"uri": "bad.jpg", "error": 'cannot be decoded: "x"'}


def test_an_unknown_extension_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the extension is \.xlsx; \.csv and \.jsonl are possible"):
        predictions.write(FOUND, tmp_path / "p.xlsx", top=2)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def breaking() -> Iterator[Prediction]:
        yield FOUND[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictions.write(breaking(), tmp_path / "p.csv", top=2)
    assert list(tmp_path.iterdir()) == []
