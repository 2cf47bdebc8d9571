"""Whatever a manifest lists, in whatever spelling of CSV or JSON Lines, comes back as it was listed."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.dataset.example import Example, Split
from job.dataset.layouts import csv_manifest, jsonl_manifest
from job.errors import DatasetError

REPEATABLE = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAME = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\\/"), min_size=1, max_size=8)
LABEL = NAME.filter(str.strip)
IMAGE = st.one_of(
    st.tuples(st.sampled_from(["", "./", "a//", "b/./"]), NAME, st.sampled_from(["", "/x.jpg"])).map("".join),
    NAME.map("gs://bucket/{}".format),
).filter(lambda image: image == image.strip() and ".." not in image and posixpath.normpath(image) != ".")
SPLIT = st.sampled_from(["", "train", "TRAINING", " test", "Validation", "val", "unassigned"])
ROWS = st.lists(st.tuples(IMAGE, LABEL, SPLIT), min_size=1, max_size=12, unique_by=lambda row: uri_of(row[0]))

SPLITS = {"train": Split.TRAIN, "training": Split.TRAIN, "test": Split.TEST}
SPLITS |= {"validation": Split.VALIDATION, "val": Split.VALIDATION}


def uri_of(image: str) -> str:
    return image if image.startswith("gs://") else posixpath.normpath(image)


def expected(rows: list[tuple[str, str, str]]) -> list[Example]:
    return [
        Example(uri_of(image), unicodedata.normalize("NFC", label).strip(), SPLITS.get(split.strip().lower()))
        for image, label, split in rows
    ]


@REPEATABLE
@given(
    ROWS,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.permutations(["image", "label", "split", "remark"]),
)
def test_a_table_in_any_dialect_comes_back_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str, str]], separator: str, encoding: str, columns: list[str]
) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=separator)
    table.writerow(columns)
    for image, label, split in rows:
        values = {"image": image, "label": label, "split": split, "remark": "none, really; |\t"}
        table.writerow([values[column] for column in columns])
    path = tmp_path / "labels.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert csv_manifest.recognise(path)
    assert csv_manifest.read(path) == expected(rows)


@REPEATABLE
@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_json_lines_come_back_as_they_were_written(
    tmp_path: Path, rows: list[tuple[str, str, str]], is_ascii: bool, line_end: str
) -> None:
    lines = [
        json.dumps(
            {
                "imageGcsUri": image,
                "classificationAnnotation": {"displayName": label},
                "dataItemResourceLabels": {jsonl_manifest.ML_USE: split},
            },
            ensure_ascii=is_ascii,
        )
        for image, label, split in rows
    ]
    (tmp_path / "a.jsonl").write_bytes((line_end.join(lines) + line_end).encode())
    assert jsonl_manifest.read(tmp_path) == expected(rows)


@REPEATABLE
@given(st.binary(max_size=300), st.sampled_from(["labels.csv", "labels.jsonl"]))
def test_any_bytes_are_examples_or_an_error_that_names_the_file(tmp_path: Path, data: bytes, name: str) -> None:
    head = b"image,label\n" if name.endswith("csv") else b""
    (tmp_path / name).write_bytes(head + data)
    read = csv_manifest.read if name.endswith("csv") else jsonl_manifest.read
    try:
        found = read(tmp_path / name)
    except DatasetError as error:
        named = name in error.message
    else:
        named = all(example.uri and example.label for example in found)
    assert named


@REPEATABLE
@given(st.integers(1, 40), st.data())
def test_a_contradiction_names_both_lines(tmp_path: Path, num: int, data: st.DataObject) -> None:
    plain = [(f"{number}.jpg", f"class {number}") for number in range(num)]
    twice = data.draw(st.sampled_from(plain))
    lines = ["image,label", *(f"{image},{label}" for image, label in plain), f"{twice[0]},another"]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    message = rf"line {len(lines)} lists .* but labels\.csv, line {plain.index(twice) + 2} as '{twice[1]}'"
    with pytest.raises(DatasetError, match=message):
        csv_manifest.read(tmp_path)
