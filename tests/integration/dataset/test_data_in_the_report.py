"""What the report says of the data, on photographs whose publishers split them with copies on both sides."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from job.config import DataConfig
from job.dataset.example import Split
from job.dataset.prepare import Dataset, prepare
from job.stages.deliver import _data_summary


@pytest.fixture(scope="module")
def flowers(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Returns 720 training and 240 test photographs: a classifier's benchmark, with the splits it is published with."""
    data, work = assets / "data/flowers12", tmp_path_factory.mktemp("work")
    return prepare(DataConfig(), dataset_dir=data, work_dir=work, stored_px=16, seed=0, pack=False)


def test_test_photographs_that_are_also_in_train_are_not_counted_and_the_report_says_so(flowers: Dataset) -> None:
    left_out = [row for row in flowers.rows if row.split is None]
    assert all(row.uri.startswith("test/") and "nearly the same image is train/" in row.notes for row in left_out)
    assert 18 <= len(left_out) <= 30
    assert len(flowers.indices(Split.TEST)) == 240 - len(left_out)
    notes = _data_summary(flowers).notes
    assert [note for note in notes if note.startswith(f"{len(left_out)} test images are not counted in the evaluation")]
    assert [note for note in notes if note.startswith(f"{flowers.summary.num_near_duplicates} images are near-dup")]


def test_near_duplicates_among_photographs_are_few_small_groups_of_one_class(flowers: Dataset) -> None:
    grouped = sorted((row for row in flowers.rows if row.group), key=lambda row: row.group)
    groups = [list(rows) for _, rows in itertools.groupby(grouped, lambda row: row.group)]
    assert 40 <= len(groups) <= 80
    assert max(map(len, groups)) <= 4
    assert all(len({row.label for row in rows}) == 1 for rows in groups)
    splits = [{row.split for row in rows} - {None} for rows in groups]
    assert all(len(found) == 1 for found in splits), "near-duplicates straddle a split"
