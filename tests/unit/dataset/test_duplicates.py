"""Copies in a dataset, exact and near: found by the survey, noted, grouped, kept out of evaluation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from job.config import DataConfig
from job.dataset import duplicates, likeness, survey
from job.dataset.examine import Examiner
from job.dataset.example import Example, Row, Split
from job.dataset.prepare import Dataset, prepare
from job.dataset.reading import FileReader
from job.errors import DatasetError, StoppedError


def drawn(seed: int, *, size_px: int = 96) -> Image.Image:
    """A picture of blots: no two seeds look alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size_px, size_px), Image.Resampling.BICUBIC).filter(ImageFilter.BoxBlur(1))


def jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def surveyed(folder: Path, examples: list[Example], *, near_duplicates: bool = True) -> list[Row]:
    reader = FileReader(folder)
    found = survey.look(examples, Examiner(reader, 8, 1.0, 12))
    return survey.rows_of(examples, found, reader, near_duplicates=near_duplicates)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture four times: twice the same file, once at another quality, once at half the size; and another."""
    return written(
        tmp_path / "data",
        {
            "a.jpg": jpeg(drawn(1), 95),
            "b.jpg": jpeg(drawn(1), 95),
            "c.jpg": jpeg(drawn(1), 60),
            "d.jpg": jpeg(drawn(1).resize((48, 48)), 90),
            "e.jpg": jpeg(drawn(2), 95),
        },
    )


def test_near_duplicates_are_noted_and_grouped_beside_exact_ones(folder: Path) -> None:
    rows = surveyed(folder, [Example(f"{name}.jpg", "cat") for name in "abcde"])
    assert [row.notes for row in rows] == [
        "",
        "duplicate of a.jpg",
        "near-duplicate of a.jpg",
        "near-duplicate of a.jpg",
        "",
    ]
    assert {row.group for row in rows[:4]} == {min(row.sha256 for row in rows[:4])}
    assert rows[4].group == ""
    assert rows[4].content == rows[4].sha256


def test_the_group_does_not_depend_on_order(folder: Path) -> None:
    forward, back = (surveyed(folder, [Example(f"{name}.jpg", "x") for name in names]) for names in ("abcde", "edcba"))
    assert {row.uri: row.group for row in forward} == {row.uri: row.group for row in back}


def test_a_near_duplicate_under_another_label_says_which(folder: Path) -> None:
    rows = surveyed(folder, [Example("a.jpg", "cat"), Example("c.jpg", "dog"), Example("d.jpg", "cat")])
    assert rows[1].notes == "near-duplicate of a.jpg, which is labelled 'cat'"
    assert rows[2].notes == "near-duplicate of a.jpg"


def test_switched_off_it_finds_equal_files_alone(folder: Path) -> None:
    rows = surveyed(folder, [Example(f"{name}.jpg", "cat") for name in "abcde"], near_duplicates=False)
    assert [row.notes for row in rows] == ["", "duplicate of a.jpg", "", "", ""]
    assert not any(row.group for row in rows)


def test_only_what_a_hash_proposes_is_decoded_again(folder: Path) -> None:
    examples = [Example(f"{name}.jpg", "cat") for name in "abcde"]
    rows = surveyed(folder, examples, near_duplicates=False)
    read: list[str] = []

    class Noting(FileReader):
        def read(self, uri: str) -> bytes:
            read.append(uri)
            return super().read(uri)

    far = {row.sha256: f"{number * 0x1111_1111_1111:016x}" for number, row in enumerate(rows)}
    assert duplicates.grouped(rows, far, Noting(folder))[2].group == ""
    assert read == []
    near = dict.fromkeys(far, "0000000000000001")
    assert duplicates.grouped(rows, near, Noting(folder))[2].group != ""
    assert sorted(read) == ["a.jpg", "c.jpg", "d.jpg", "e.jpg"]


def test_what_the_pixels_refuse_again_and_again_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.png" for number in range(40)]
    for number, name in enumerate(names):
        drawn(number, size_px=32).save(tmp_path / name)
    rows = surveyed(tmp_path, [Example(name, "cat") for name in names], near_duplicates=False)
    monkeypatch.setattr(duplicates, "_AT_ONCE", 4)
    compared: list[int] = []
    is_same = likeness.is_same
    monkeypatch.setattr(likeness, "is_same", lambda a, b: compared.append(1) or is_same(a, b))
    proposed = dict.fromkeys((row.sha256 for row in rows), "0000000000000001")
    assert duplicates.grouped(rows, proposed, FileReader(tmp_path)) == rows
    num_proposed = len(likeness.proposals(np.ones(40, np.uint64)))
    # 8 of each image, half of them counted twice, and what was in work when the eighth was refused.
    assert 40 < len(compared) < 40 * 8 / 2 + 40 < num_proposed


def test_a_stop_during_the_search_gets_through(folder: Path) -> None:
    def stop() -> None:
        raise StoppedError("stopped")

    examples = [Example(f"{name}.jpg", "cat") for name in "abcde"]
    reader = FileReader(folder)
    found = survey.look(examples, Examiner(reader, 8, 1.0, 12))
    with pytest.raises(StoppedError):
        survey.rows_of(examples, found, reader, on_look=stop)


def prepared(data: Path, work: Path, **settings: object) -> Dataset:
    config = DataConfig.model_validate(settings)
    return prepare(config, dataset_dir=data, work_dir=work, stored_px=16, seed=0, pack=False)


def test_copies_across_given_splits_leave_the_evaluation_counted_and_noted(tmp_path: Path) -> None:
    files = {
        f"{split}/{label}/{number}.jpg": jpeg(drawn(seed * 100 + number + 50 * (label == "dog")), 95)
        for seed, split in enumerate(("train", "validation", "test"))
        for label in ("cat", "dog")
        for number in range(4)
    }
    files["test/cat/exact.jpg"] = files["train/cat/0.jpg"]
    files["test/cat/near.jpg"] = jpeg(drawn(1), 70)
    files["validation/dog/near.jpg"] = jpeg(drawn(50).resize((60, 60)), 90)
    dataset = prepared(written(tmp_path / "data", files), tmp_path / "w")
    left_out = {row.uri: row.notes for row in dataset.rows if row.split is None}
    assert set(left_out) == {"test/cat/exact.jpg", "test/cat/near.jpg", "validation/dog/near.jpg"}
    assert "left out of test: the same image is train/cat/0.jpg in train" in left_out["test/cat/exact.jpg"]
    assert "left out of test: nearly the same image is train/cat/1.jpg in train" in left_out["test/cat/near.jpg"]
    assert dataset.summary.left_out == {"test": 2, "validation": 1}
    assert (dataset.summary.num_duplicates, dataset.summary.num_near_duplicates) == (1, 2)
    assert [len(dataset.indices(split)) for split in Split] == [8, 8, 8]
    everything = prepared(tmp_path / "data", tmp_path / "w", near_duplicates=False)
    assert everything.summary.left_out == {"test": 1}


def test_near_duplicates_stay_together_where_the_job_splits(tmp_path: Path) -> None:
    files = {
        f"{label}/{number}-{quality}.jpg": jpeg(drawn(number + 100 * (label == "dog")), quality)
        for label in ("cat", "dog")
        for number in range(15)
        for quality in (95, 60)
    }
    dataset = prepared(written(tmp_path / "data", files), tmp_path / "w")
    splits: dict[str, set[Split | None]] = {}
    for row in dataset.rows:
        splits.setdefault(row.uri.partition("-")[0], set()).add(row.split)
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == set(Split)


def test_a_dataset_of_one_picture_says_what_to_do(tmp_path: Path) -> None:
    files = {f"{label}/{q}.jpg": jpeg(drawn(label == "dog"), q) for label in ("cat", "dog") for q in range(70, 80)}
    with pytest.raises(DatasetError, match="split would be empty") as error:
        prepared(written(tmp_path / "data", files), tmp_path / "w")
    assert "data.near_duplicates=false" in error.value.next_step
