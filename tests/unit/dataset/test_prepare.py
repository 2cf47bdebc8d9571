"""From a folder to a dataset, and what a second call does again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from job.config import DataConfig
from job.dataset import table
from job.dataset.example import Row, Split, Verdict
from job.dataset.pack import DecodedPixels, PackedPixels, allocate
from job.dataset.prepare import Dataset, prepare
from job.errors import DatasetError

MakeFolder = Callable[..., Path]


@pytest.fixture
def data(make_folder: MakeFolder) -> Path:
    """Two classes of six good images, and one broken file."""
    root = make_folder(*[f"{label}/{n}.png" for label in ("dog", "cat") for n in range(6)])
    (root / "cat/broken.jpg").write_bytes(b"<html>")
    return root


def prepared(
    data: Path, work: Path, *, seed: int = 0, stored_px: int = 12, pack: bool = True, **settings: object
) -> Dataset:
    config = DataConfig.model_validate({"max_bad": 0.1, **settings})
    return prepare(config, dataset_dir=data, work_dir=work, stored_px=stored_px, seed=seed, pack=pack)


def test_rows_classes_labels_pixels_and_splits_fit_together(data: Path, tmp_path: Path) -> None:
    dataset = prepared(data, tmp_path / "w")
    assert dataset.classes == ("cat", "dog")
    assert [row.index for row in dataset.rows] == list(range(13))
    assert dataset.labels.dtype == np.int32
    for row, label in zip(dataset.rows, dataset.labels, strict=True):
        assert label == (-1 if row.verdict is not Verdict.OK else dataset.classes.index(row.label))
    indices = [dataset.indices(split) for split in Split]
    assert sorted(np.concatenate(indices)) == [row.index for row in dataset.rows if row.verdict is Verdict.OK]
    assert all(found.dtype == np.int64 for found in indices)
    assert len(dataset.pixels) == 13
    assert dataset.encoded(0) == (data / dataset.rows[0].uri).read_bytes()


def test_the_published_table_holds_no_secret_of_a_uri(data: Path, tmp_path: Path) -> None:
    dataset = prepared(data, tmp_path / "w")
    signed = "gs://bucket/cat.png?X-Goog-Signature=5ec2e7&X-Goog-Date=1"
    rows = [replace(dataset.rows[0], uri=signed, notes=f"duplicate of {signed}"), *dataset.rows[1:]]
    replace(dataset, rows=rows).write_csv(tmp_path / "dataset.csv")
    published = table.read(tmp_path / "dataset.csv")
    assert published[0].uri == "gs://bucket/cat.png?***"
    assert published[0].notes == "duplicate of gs://bucket/cat.png?***"
    assert published[1:] == list(dataset.rows[1:])


def test_a_pack_and_decoding_on_the_fly_give_the_same_pixels(data: Path, tmp_path: Path) -> None:
    order = np.array([7, 0, 12, 6, 6], np.int64)
    packed = prepared(data, tmp_path / "w").pixels
    for how in ({"pack": False}, {"pack_gb": 0.0}):
        decoded = prepared(data, tmp_path / "v", **how).pixels
        assert isinstance(decoded, DecodedPixels)
        np.testing.assert_array_equal(packed.gather(order), decoded.gather(order))
    assert isinstance(packed, PackedPixels)
    assert packed.gather(order).shape == (5, 12, 12, 3)
    assert type(packed.gather(order)) is np.ndarray


def test_a_second_call_decodes_nothing(data: Path, tmp_path: Path) -> None:
    assert not (first := prepared(data, tmp_path)).is_cached
    second = prepared(data, tmp_path)
    assert second.is_cached
    assert second.rows == first.rows
    assert prepared(data, tmp_path, seed=1, max_bad=0.2).is_cached, "the split is made afresh"


@pytest.mark.parametrize("change", [{"stored_px": 10}, {"fit": "pad"}, {"min_px": 9}, {"max_megapixels": 1.0}])
def test_what_changes_the_pack_makes_it_anew(data: Path, tmp_path: Path, change: dict[str, object]) -> None:
    prepared(data, tmp_path)
    assert not prepared(data, tmp_path, **change).is_cached  # type: ignore[arg-type]  # settings of several types


def test_a_changed_file_is_surveyed_again(data: Path, tmp_path: Path) -> None:
    before = prepared(data, tmp_path)
    (data / "cat/0.png").write_bytes((data / "dog/0.png").read_bytes())
    after = prepared(data, tmp_path)
    assert not after.is_cached
    assert before.summary.num_duplicates == 0
    assert after.summary.num_duplicates == after.summary.num_contradictions == 1


def test_a_survey_without_a_pack_does_not_stand_for_one(data: Path, tmp_path: Path) -> None:
    prepared(data, tmp_path, pack=False)
    assert prepared(data, tmp_path, pack=False).is_cached
    assert not prepared(data, tmp_path).is_cached
    assert isinstance(prepared(data, tmp_path).pixels, PackedPixels)


def test_a_survey_that_fails_the_limit_is_kept_and_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"1 of 13 images \(7\.7%\)") as error:
        prepared(data, tmp_path / "w", max_bad=0.05)
    kept = next((tmp_path / "w").glob("survey-*.csv"))
    assert str(kept) in error.value.next_step
    assert prepared(data, tmp_path / "w").is_cached


def test_nothing_half_written_has_a_final_name(data: Path, tmp_path: Path) -> None:
    def fail(*at: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(
            DataConfig(max_bad=1.0), dataset_dir=data, work_dir=tmp_path / "w", stored_px=12, seed=0, on_progress=fail
        )
    assert sorted(path.suffix for path in (tmp_path / "w").iterdir()) == [".journal", ".partial"]
    assert not prepared(data, tmp_path / "w").is_cached
    assert sorted(path.suffix for path in (tmp_path / "w").iterdir()) == [".csv", ".npy"]


def test_an_image_that_vanishes_during_training_is_named(data: Path, tmp_path: Path) -> None:
    dataset = prepared(data, tmp_path, pack=False)
    (data / dataset.rows[0].uri).unlink()
    with pytest.raises(DatasetError, match=r"'cat/0\.png' could be decoded when .* but now cannot"):
        dataset.pixels.gather(np.array([0]))


def test_the_summary_counts_what_was_found(data: Path, tmp_path: Path) -> None:
    summary = prepared(data, tmp_path).summary.to_dict()
    assert (summary["num_images"], summary["num_ok"], summary["num_bad"]) == (13, 12, 1)
    assert summary["verdicts"] == {"not an image": 1}
    assert sum(summary["splits"].values()) == 12
    assert sum(summary["classes"]["cat"].values()) == 6
    assert summary["split_note"].startswith("the data brings no split")


def test_dataset_csv_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        Row(0, 'a, "b"\n.jpg', "ca\u00e9", Split.TEST, Verdict.OK, "", "alpha dropped; 16-bit", "00", 3, 4, 5),
        Row(1, "not-utf8-\udcff.jpg", "cat", None, Verdict.MISSING, "there is no such file", "", "", 0, 0, 0),
    ]
    table.write(tmp_path / "deep/dataset.csv", rows)
    assert table.read(tmp_path / "deep/dataset.csv") == rows
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["dataset.csv"]


def test_a_pack_that_the_disk_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    assert not allocate(tmp_path / "pixels.npy", num_images=10**9, stored_px=4096)
    assert not list(tmp_path.iterdir())
