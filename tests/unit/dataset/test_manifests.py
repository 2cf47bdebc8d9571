"""CSV and JSONL manifests: what is tolerated, and what every fault is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job.dataset.example import Example, Split
from job.dataset.layouts import csv_manifest, jsonl_manifest, remote_images
from job.dataset.reading import FileReader
from job.errors import DatasetError

ROWS = [Example("a/1.jpg", "cat", Split.TRAIN), Example("gs://b/2.jpg", "dog", Split.TEST), Example("3.jpg", "cat")]
CSV = "image,label,split\na/1.jpg,cat,train\ngs://b/2.jpg,dog,TEST\n./3.jpg, cat ,\n"


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding, newline="")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_usual_separator_and_byte_order_mark_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    written(tmp_path, "labels.csv", CSV.replace(",", separator), encoding)
    assert csv_manifest.recognise(tmp_path)
    assert csv_manifest.read(tmp_path) == ROWS


def test_windows_line_ends_backslashes_and_other_column_names_are_read(tmp_path: Path) -> None:
    written(tmp_path, "labels.csv", "ID,Filename,Class\r\n7,a\\1.jpg,cat\r\n8,b.jpg,dog\r\n")
    assert csv_manifest.read(tmp_path) == [Example("a/1.jpg", "cat"), Example("b.jpg", "dog")]


def test_a_table_that_is_no_manifest_is_not_taken_for_one(tmp_path: Path) -> None:
    written(tmp_path, "wages.csv", "name,euros\na,1\n")
    assert not csv_manifest.recognise(tmp_path)


def test_one_manifest_is_found_among_other_tables(tmp_path: Path) -> None:
    written(tmp_path, "wages.csv", "name,euros\na,1\n")
    written(tmp_path, "labels.csv", CSV)
    assert csv_manifest.read(tmp_path) == ROWS


def test_two_manifests_are_named(tmp_path: Path) -> None:
    written(tmp_path, "a.csv", CSV)
    written(tmp_path, "b.csv", CSV)
    with pytest.raises(DatasetError, match=r"exactly one manifest .* found: a\.csv, b\.csv"):
        csv_manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.jpg,cat\n", r"no column 'image'; its header names \['file', 'label'\]"),
        ("image,kind\n1.jpg,cat\n", "no column 'label'"),
        ("image,label\n1.jpg,\n", "line 2 has no label; received image '1.jpg'"),
        ("image,label\n1.jpg\n", "line 2 has no label"),
        ("image,label\n1.jpg,cat\n,dog\n", "line 3 has no image"),
        (
            "image,label,split\n1.jpg,cat,trian\n",
            "line 2 gives the split 'trian'; allowed are train.* Did you mean 'train'",
        ),
        ("image,label\n1.jpg,cat\n./1.jpg,dog\n", "line 3 lists './1.jpg' as 'dog', but .*line 2 as 'cat'"),
    ],
)
def test_every_fault_of_a_table_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        csv_manifest.read(written(tmp_path, "labels.csv", text))
    assert "labels.csv" in error.value.message
    assert error.value.next_step


def test_a_line_repeated_word_for_word_counts_once(tmp_path: Path) -> None:
    written(tmp_path, "labels.csv", "image,label\n1.jpg,cat\n1.jpg,cat\n")
    assert len(csv_manifest.read(tmp_path)) == 1


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not UTF-8: byte 18"):
        csv_manifest.read(written(tmp_path, "labels.csv", "image,label\n1.jpg,\u00e9l\u00e9phant\n", "latin-1"))


def vertex(image: str, label: str, use: str | None = None) -> str:
    entry: dict[str, object] = {"imageGcsUri": image, "classificationAnnotation": {"displayName": label}}
    if use is not None:
        entry["dataItemResourceLabels"] = {"aiplatform.googleapis.com/ml_use": use}
    return json.dumps(entry, ensure_ascii=False)


def test_vertex_lines_are_read(tmp_path: Path) -> None:
    lines = [vertex("a/1.jpg", "cat", "training"), vertex("gs://b/2.jpg", "dog", "test"), "", vertex("3.jpg", "cat")]
    written(tmp_path, "import.jsonl", "\n".join(lines))
    assert jsonl_manifest.recognise(tmp_path)
    assert jsonl_manifest.read(tmp_path) == ROWS


def test_a_line_separator_inside_a_name_does_not_end_the_line(tmp_path: Path) -> None:
    written(tmp_path, "import.jsonl", vertex("a\u2028b.jpg", "cat"))
    assert jsonl_manifest.read(tmp_path) == [Example("a\u2028b.jpg", "cat")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "holds a list"),
        ('{"uri": "1.jpg"}', "no string 'imageGcsUri'; it has 'uri'"),
        (vertex("1.jpg", ""), "has no label"),
        ('{"imageGcsUri": "1.jpg", "classificationAnnotation": {"displayName": 7}}', "the label is 7"),
        ('{"imageGcsUri": "1.jpg", "classificationAnnotations": []}', "several labels"),
        (vertex("1.jpg", "cat", "holdout"), "the split 'holdout'"),
    ],
)
def test_every_fault_of_a_json_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        jsonl_manifest.read(written(tmp_path, "import.jsonl", line))


def test_full_uris_are_listed_for_download_and_read_from_where_they_went(tmp_path: Path) -> None:
    manifest = written(tmp_path, "labels.csv", CSV)
    assert remote_images(manifest, work_dir=tmp_path) == ["gs://b/2.jpg"]
    (tmp_path / "here.jpg").write_bytes(b"bytes")
    reader = FileReader(tmp_path, {"gs://b/2.jpg": tmp_path / "here.jpg"})
    assert reader.read("gs://b/2.jpg") == reader.read((tmp_path / "here.jpg").as_uri()) == b"bytes"
    with pytest.raises(FileNotFoundError, match="was not downloaded"):
        FileReader(tmp_path).read("gs://b/2.jpg")
