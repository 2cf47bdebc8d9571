"""Several machines prepare one dataset: each looks at its share, all get what one machine gets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from job.config import DataConfig
from job.dataset.example import Verdict
from job.dataset.pack import DecodedPixels
from job.dataset.prepare import Dataset, prepare
from job.dataset.shares import Share, SharedPixels
from job.errors import DatasetError
from tests.meeting import Meeting

pytestmark = pytest.mark.cluster

Encode = Callable[..., bytes]
NUM_A_CLASS = 15


@pytest.fixture
def data(tmp_path: Path, encoded: Encode) -> Path:
    """Two classes, with copies across the shares, near-duplicates and broken files."""
    for label, first in (("cat", 0), ("dog", 10)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(NUM_A_CLASS):
            content = b"broken" if number == 7 else encoded(first + number % 12, form="JPEG", quality=70 + number)
            (tmp_path / "data" / label / f"{number:02d}.jpg").write_bytes(content)
    return tmp_path / "data"


def prepared(data: Path, work: Path, share: Share | None = None, told: list[int] | None = None) -> Dataset:
    def note(what: str, done: int, total: int) -> None:
        if told is not None:
            told.append(done)

    config = DataConfig(max_bad=0.5)
    return prepare(config, dataset_dir=data, work_dir=work, stored_px=12, seed=0, on_progress=note, share=share)


def together(
    data: Path | Sequence[Path], work: Path, num_workers: int, told: list[list[int]] | None = None
) -> list[Dataset]:
    """Returns what each of so many machines gets, each with a work folder of its own."""
    places = [data] * num_workers if isinstance(data, Path) else data
    told = told if told is not None else [[] for _ in range(num_workers)]
    with ThreadPoolExecutor(num_workers) as pool:
        jobs = [
            pool.submit(prepared, places[share.worker], work / str(share.worker), share, told[share.worker])
            for share in Meeting(num_workers).shares
        ]
        return [job.result() for job in jobs]


def usable(dataset: Dataset) -> np.ndarray:
    return np.array([row.index for row in dataset.rows if row.verdict is Verdict.OK], np.int64)


@pytest.mark.parametrize("num_workers", [2, 3, 4])
def test_each_looks_at_its_share_and_all_get_what_one_gets(num_workers: int, data: Path, tmp_path: Path) -> None:
    alone = prepared(data, tmp_path / "alone")
    told: list[list[int]] = [[] for _ in range(num_workers)]
    datasets = together(data, tmp_path, num_workers, told)
    assert [max(each) for each in told] == [len(share.rows(30)) for share in Meeting(num_workers).shares]
    assert sum(max(each) for each in told) == len(alone.rows) == 30
    assert any("duplicate of" in row.notes for row in alone.rows)
    for dataset in datasets:
        assert dataset.rows == alone.rows
        assert dataset.summary == alone.summary
        np.testing.assert_array_equal(dataset.labels, alone.labels)
        wanted = usable(alone)[::-1]
        np.testing.assert_array_equal(dataset.pixels.gather(wanted), alone.pixels.gather(wanted))


def test_an_image_of_another_share_is_decoded_once(data: Path, tmp_path: Path) -> None:
    alone = prepared(data, tmp_path / "alone")
    wanted = usable(alone)
    first, _ = together(data, tmp_path, 2)
    images = first.pixels.gather(wanted[:20])
    np.testing.assert_array_equal(images, alone.pixels.gather(wanted[:20]))
    for index in wanted[:20]:
        path = data / alone.rows[int(index)].uri
        size, times = path.stat().st_size, (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        path.write_bytes(bytes(size))
        os.utime(path, ns=times)
    again, _ = together(data, tmp_path, 2)
    assert again.is_cached
    np.testing.assert_array_equal(again.pixels.gather(wanted[:20]), images)


def test_a_row_that_a_power_failure_spoiled_is_decoded_again(data: Path, tmp_path: Path) -> None:
    first, _ = together(data, tmp_path, 2)
    row = usable(first)[:1]
    image = first.pixels.gather(row)
    (pack,) = (tmp_path / "0").glob("*.share.npy")
    content = bytearray(pack.read_bytes())
    start = len(content) - (30 - int(row[0])) * 12 * 12 * 3
    content[start : start + 12] = bytes(12)
    pack.write_bytes(content)
    again, _ = together(data, tmp_path, 2)
    np.testing.assert_array_equal(again.pixels.gather(row), image)


def test_who_starts_again_elsewhere_gets_the_table_of_the_others(data: Path, tmp_path: Path) -> None:
    before = together(data, tmp_path, 2)
    (tmp_path / "0").rename(tmp_path / "gone")
    told: list[list[int]] = [[], []]
    after = together(data, tmp_path, 2, told)
    assert [dataset.rows for dataset in after] == [dataset.rows for dataset in before]
    # The new one packs its share; the other has all it needs.
    assert [max(each, default=0) for each in told] == [15, 0]
    assert [dataset.is_cached for dataset in after] == [False, True]


def test_a_share_of_a_pack_is_not_taken_for_all_of_it(data: Path, tmp_path: Path) -> None:
    together(data, tmp_path, 2)
    alone = prepared(data, tmp_path / "0")
    assert not alone.is_cached
    wanted = usable(alone)
    np.testing.assert_array_equal(alone.pixels.gather(wanted), prepared(data, tmp_path / "new").pixels.gather(wanted))


def test_machines_that_see_different_images_are_told(data: Path, tmp_path: Path, encoded: Encode) -> None:
    shutil.copytree(data, tmp_path / "other")
    (tmp_path / "other" / "cat" / "one-more.jpg").write_bytes(encoded(99))
    with pytest.raises(DatasetError, match=r"the lists of workers \[1\] are not that of worker 0"):
        together([data, tmp_path / "other"], tmp_path, 2)


def test_without_room_for_a_pack_images_are_decoded_on_the_fly(data: Path, tmp_path: Path) -> None:
    def small(share: Share) -> Dataset:
        config = DataConfig(max_bad=0.5, pack_gb=1e-9)
        return prepare(
            config, dataset_dir=data, work_dir=tmp_path / str(share.worker), stored_px=12, seed=0, share=share
        )

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(small, Meeting(2).shares)
    assert first.rows == second.rows
    assert isinstance(first.pixels, DecodedPixels)
    packed = together(data, tmp_path / "packed", 2)[0]
    assert isinstance(packed.pixels, SharedPixels)
    wanted = usable(first)
    np.testing.assert_array_equal(first.pixels.gather(wanted), packed.pixels.gather(wanted))


@pytest.mark.parametrize(("num", "num_workers"), [(30, 4), (3, 4), (7, 2), (8, 8)])
def test_shares_hold_every_row_once(num: int, num_workers: int) -> None:
    rows = [list(share.rows(num)) for share in Meeting(num_workers).shares]
    assert list(chain(*rows)) == list(range(num))
    assert max(map(len, rows)) == -(-num // num_workers)
