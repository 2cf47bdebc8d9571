"""`finetune predict` and `finetune evaluate`: any model URI, any image URI, every form of answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from job import serving
from job.demo.object_store import ObjectStore
from job.errors import DatasetError, InputMissingError, UsageError
from job.export import saved_model
from job.export.saved_model import Geometry
from job.storage import at, transfer

CLASSES = ("red", "green", "blue")


def _picture(color: int) -> bytes:
    pixels = np.full((20, 24, 3), 40, np.uint8)
    pixels[..., color] = 220
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a model that answers with the brightest colour."""
    inputs = keras.Input((16, 16, 3), name="pixels")
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    logits = keras.layers.Dense(3, name="logits")(mean)
    model = keras.Model(inputs, logits)
    model.get_layer("logits").set_weights([np.eye(3) / 20, np.zeros(3)])
    run = tmp_path_factory.mktemp("served") / "run"
    geometry = Geometry("squash", 16, 16)
    saved_model.write(model, classes=CLASSES, temperature=1.0, geometry=geometry, to=run / "export" / "1")
    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures a class, and one file that is none."""
    for number, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for copy in range(2):
            (tmp_path / "photos" / name / f"{copy}.png").write_bytes(_picture(number))
    (tmp_path / "photos" / "red" / "broken.jpg").write_bytes(b"not an image")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_dir: Path, photos: Path) -> Iterator[ObjectStore]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ObjectStore() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        server.make_bucket("bucket")
        transfer.push(run_dir, at("gs://bucket/run"))
        transfer.push(photos, at("gs://bucket/photos"))
        yield server


@pytest.mark.parametrize("model", ["{}", "{}/export/1", "{}/", "file://{}"])
def test_one_file_is_answered_with_its_best_classes(
    model: str, run_dir: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.predict(model.format(run_dir), [str(photos / "green" / "0.png")], output=None, top=2)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{photos}/green/0.png: green 100.0%  ")
    assert "%" in line.split("  ")[1]


def test_a_folder_gives_a_row_an_image_and_an_error_row_for_a_bad_one(
    run_dir: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "predictions.csv"
    serving.predict(str(run_dir), [str(photos)], output=str(output), top=3)
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert len(rows) == 7
    assert [row["uri"] for row in rows if row["error"]] == [f"{photos}/red/broken.jpg"]
    assert all(row["class_1"] == row["uri"].split("/")[-2] for row in rows if not row["error"])
    assert "6 images classified, 1 could not be read" in capsys.readouterr().out
    assert list(output.parent.iterdir()) == [output]


def test_model_images_and_answers_may_lie_in_a_bucket(bucket: ObjectStore) -> None:
    uris = ["gs://bucket/photos/blue/1.png", "gs://bucket/photos/red"]
    serving.predict("gs://bucket/run", uris, output="gs://bucket/answers/today.jsonl", top=1)
    rows = [json.loads(line) for line in bucket.get("bucket", "answers/today.jsonl").splitlines()]
    assert [row["uri"].removeprefix("gs://bucket/photos/") for row in rows] == [
        "blue/1.png",
        "red/0.png",
        "red/1.png",
        "red/broken.jpg",
    ]
    assert [row["predictions"][0]["class"] for row in rows[:3]] == ["blue", "red", "red"]
    assert "cannot be decoded" in rows[3]["error"]


def test_evaluate_prints_scores_and_what_was_not_read(
    run_dir: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    serving.evaluate(str(run_dir), str(photos), as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("accuracy 1.0000 (95 % interval ")
    assert "on 6 images" in text
    assert "not read: red/broken.jpg" in text
    # Nothing beside the data: an evaluation is no run.
    assert {path.name for path in tmp_path.iterdir()} <= {"photos", "cache"}


def test_evaluate_of_a_bucket_prints_nothing_but_json(bucket: ObjectStore, capsys: pytest.CaptureFixture[str]) -> None:
    before = bucket.names("bucket")
    serving.evaluate("gs://bucket/run/export/1", "gs://bucket/photos", as_json=True)
    scores = json.loads(capsys.readouterr().out)
    assert (scores["accuracy"], scores["num_images"], scores["num_unreadable"]) == (1.0, 6, 1)
    assert bucket.names("bucket") == before


def test_a_class_that_the_model_does_not_know_is_named(
    run_dir: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (photos / "red").rename(photos / "rot")
    with pytest.raises(DatasetError, match="'rot'; it knows 3: red, green, blue"):
        serving.evaluate(str(run_dir), str(photos), as_json=False)


def test_what_is_missing_is_said(run_dir: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no exported model") as error:
        serving.predict(str(tmp_path), [str(photos)], output=None, top=1)
    assert "export/1" in error.value.next_step
    with pytest.raises(InputMissingError, match="nowhere does not exist"):
        serving.predict(str(run_dir), [str(tmp_path / "nowhere")], output=None, top=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissingError, match="no image at"):
        serving.predict(str(run_dir), [str(tmp_path / "empty")], output=None, top=1)
    with pytest.raises(UsageError, match=r"predictions\.xlsx"):
        serving.predict(str(run_dir), [str(photos)], output="predictions.xlsx", top=1)
