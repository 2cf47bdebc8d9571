"""Of the images of a bucket each machine pulls its share; another one comes when it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from job.dataset.example import Verdict
from job.dataset.shares import Share
from job.demo.object_store import ObjectStore
from job.errors import InputMissingError
from job.stages import prepare
from job.storage import at
from tests import shards
from tests.integration.shares.machines import (
    NUM,
    SHARDS,
    Fetched,
    assert_same,
    here,
    on_each,
    png,
    together,
    usable,
    workspace,
)
from tests.meeting import Meeting

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize(
    ("uri", "num_rows"),
    [
        ("gs://photos/folders", 24),
        ("gs://photos/table", 25),
        ("gs://photos/list/labels.csv", 24),
        ("gs://photos/managed", 24),
        ("{here}/labels.csv", 24),
    ],
)
def test_each_pulls_its_share_of_the_images_and_all_get_what_one_gets(
    uri: str, num_rows: int, num_workers: int, bucket: ObjectStore, fetched: Fetched, tmp_path: Path
) -> None:
    uri = uri.format(here=tmp_path)
    alone = prepare.dataset(workspace(tmp_path / "alone", uri))
    assert len(alone.rows) == num_rows
    everything = fetched.times(".png").keys()
    assert len(everything) == 24
    fetched.names.clear()
    datasets = together(tmp_path, uri, num_workers)
    # Together they fetched each image once.
    assert fetched.times(".png") == dict.fromkeys(everything, 1)
    for share in Meeting(num_workers).shares:
        wanted = {Path(alone.rows[row].uri).name for row in share.rows(num_rows)} - {"gone.png"}
        assert here(tmp_path / str(share.worker)) == wanted
    assert_same(datasets, alone)
    # Each fetched what it had not, once; nobody looks at the broken one again.
    broken = {name for name in everything if name.endswith("red-03.png")}
    assert fetched.times(".png") == {name: 1 if name in broken else num_workers for name in everything}


@pytest.mark.parametrize("uri", ["gs://photos/folders", "gs://photos/managed", "gs://photos/records"])
def test_what_was_fetched_later_changes_nothing_for_the_next_start(
    uri: str, bucket: ObjectStore, fetched: Fetched, tmp_path: Path
) -> None:
    first, _ = together(tmp_path, uri)
    first.pixels.gather(usable(first))
    fetched.names.clear()
    again, _ = together(tmp_path, uri)
    again.pixels.gather(usable(again))
    assert [again.encoded(row) for row in usable(again)] == [first.encoded(row) for row in usable(first)]
    assert again.is_cached
    assert again.rows == first.rows
    assert not fetched.names


@pytest.mark.parametrize(
    ("uri", "bucket_name", "name"),
    [
        ("gs://photos/folders", "photos", "folders/red/red-11.png"),
        ("gs://photos/managed", "pictures", "red/red-11.png"),
        ("gs://photos/records", "photos", "records/train-00004-of-00005"),
    ],
)
def test_what_was_fetched_later_and_changed_since_is_fetched_again(
    uri: str, bucket_name: str, name: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    first, _ = together(tmp_path, uri)
    before = first.pixels.gather(usable(first))
    content = png(99, (20, 200, 20))
    if uri.endswith("records"):
        content = shards.write(tmp_path / "shard", [(content, "red")] * SHARDS[-1])
    bucket.put(bucket_name, name, content)
    datasets = together(tmp_path, uri)
    alone = prepare.dataset(workspace(tmp_path / "alone", uri))
    assert_same(datasets, alone)
    assert not np.array_equal(alone.pixels.gather(usable(first)), before)


def test_an_object_that_is_gone_leaves_no_name_behind(bucket: ObjectStore, tmp_path: Path) -> None:
    for number in (0, 1):
        bucket.put("photos", f"folders/yellow/{number}.png", png(number, (200, 200, 0)))
    first, _ = together(tmp_path, "gs://photos/folders")
    assert len(first.classes) == 3
    first.pixels.gather(usable(first))
    for name in ("red/red-11.png", "blue/blue-00.png", "yellow/0.png", "yellow/1.png"):
        at("gs://photos/folders").delete(name)
    for dataset in together(tmp_path, "gs://photos/folders"):
        assert (len(dataset.rows), dataset.classes) == (2 * NUM - 2, ("blue", "red"))


@pytest.mark.parametrize("uri", ["gs://photos/table", "gs://photos/records"])
def test_a_machine_by_itself_takes_no_share_for_the_whole(uri: str, bucket: ObjectStore, tmp_path: Path) -> None:
    together(tmp_path, uri)
    alone = prepare.dataset(workspace(tmp_path / "0", uri))
    assert not alone.is_cached
    missing = ["images/gone.png"] if uri.endswith("table") else []
    assert [row.uri for row in alone.rows if row.verdict is Verdict.MISSING] == missing


@pytest.mark.parametrize("uri", ["gs://photos/list/labels.csv", "gs://photos/managed"])
def test_an_image_that_is_not_where_the_manifest_says_ends_all(uri: str, bucket: ObjectStore, tmp_path: Path) -> None:
    at("gs://photos/list").delete("images/red-11.png")
    at("gs://pictures").delete("red/red-11.png")

    def one(share: Share) -> str:
        with pytest.raises(InputMissingError) as error:
            prepare.dataset(workspace(tmp_path / str(share.worker), uri), share)
        return error.value.message

    assert all("red-11.png" in message for message in on_each(2, one))


@pytest.mark.parametrize(
    ("uri", "name"),
    [("gs://photos/folders", "photos/folders/red/red-11.png"), ("gs://photos/managed", "pictures/red/red-11.png")],
)
def test_an_image_that_is_deleted_while_the_job_runs_is_named(
    uri: str, name: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    first, _ = together(tmp_path, uri)
    folder, _, base = name.rpartition("/")
    at(f"gs://{folder}").delete(base)
    with pytest.raises(InputMissingError, match=name):
        first.pixels.gather(usable(first))
