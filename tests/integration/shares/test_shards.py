"""Of TFRecord shards each machine pulls a run and tells the others what is in it; another comes when it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.dataset.shards import agreed
from job.dataset.shares import Share
from job.demo.object_store import ObjectStore
from job.errors import DatasetError
from job.stages import prepare
from job.storage import at
from tests.integration.shares.machines import SHARDS, Fetched, assert_same, here, on_each, together, workspace

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("num_workers", [2, 3, 5])
def test_each_pulls_whole_shards_and_all_get_what_one_gets(
    num_workers: int, bucket: ObjectStore, fetched: Fetched, tmp_path: Path
) -> None:
    alone = prepare.dataset(workspace(tmp_path / "alone", "gs://photos/records"))
    assert len(alone.rows) == sum(SHARDS)
    fetched.names.clear()
    datasets = together(tmp_path, "gs://photos/records", num_workers)
    shard_names = bucket.names("photos", "records/")
    assert fetched.times("-of-00005") == dict.fromkeys(shard_names, 1)
    on_disk = [sorted(here(tmp_path / str(worker), "train-*")) for worker in range(num_workers)]
    assert [f"records/{name}" for names in on_disk for name in names] == shard_names
    assert min(map(len, on_disk)) >= len(SHARDS) // num_workers
    assert_same(datasets, alone)
    # Many threads read records of one shard: it is fetched once.
    assert fetched.times("-of-00005") == dict.fromkeys(shard_names, num_workers)


def test_fewer_shards_than_machines_are_pulled_by_all(bucket: ObjectStore, fetched: Fetched, tmp_path: Path) -> None:
    alone = prepare.dataset(workspace(tmp_path / "alone", "gs://photos/records"))
    fetched.names.clear()
    datasets = together(tmp_path, "gs://photos/records", len(SHARDS) + 1)
    assert set(fetched.times("-of-00005").values()) == {len(SHARDS) + 1}
    assert_same(datasets, alone)


def test_a_shard_that_one_machine_cannot_read_ends_all(bucket: ObjectStore, tmp_path: Path) -> None:
    bucket.put("photos", "records/train-00004-of-00005", b"\x1f\x8b and so on")

    def one(share: Share) -> str:
        with pytest.raises(DatasetError) as error:
            prepare.dataset(workspace(tmp_path / str(share.worker), "gs://photos/records"), share)
        return str(error.value)

    first, second = on_each(2, one)
    assert first == second
    assert "'train-00004-of-00005' is compressed with gzip" in first


def test_machines_that_see_other_versions_of_a_shard_are_told(bucket: ObjectStore, tmp_path: Path) -> None:
    old = {info.name: info.version for info in at("gs://photos/records").list()}
    folder = tmp_path / "shards"
    folder.mkdir()
    for name in old:
        (folder / name).write_bytes(bucket.get("photos", f"records/{name}"))

    def one(share: Share) -> str:
        with pytest.raises(DatasetError) as error:
            agreed(share, folder, {**old, "train-00000-of-00005": "7"} if share.worker else old)
        return error.value.message

    assert all("the shards of workers [1] are not those of worker 0" in message for message in on_each(2, one))
