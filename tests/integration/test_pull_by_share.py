"""Of a dataset in a bucket each of several machines pulls its share; another image comes when it is asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job import config as configs
from job.console import JsonConsole
from job.dataset.example import Verdict
from job.dataset.prepare import Dataset
from job.dataset.shares import Share
from job.demo.object_store import ObjectStore
from job.errors import InputMissingError
from job.interruption import Stop
from job.platforms import Platform
from job.stages import prepare
from job.storage import at
from job.workspace import Workspace
from tests.meeting import Meeting

pytestmark = pytest.mark.cluster

NUM = 12
COLORS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Two classes of twelve images, one of them broken, as class folders and beside a manifest."""
    rng = np.random.default_rng(0)
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        for name in ("photos", "runs"):
            store.make_bucket(name)
        lines = ["image,label"]
        for label, color in COLORS.items():
            for number in range(NUM):
                pixels = np.clip(np.array(color) + rng.normal(0, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                content = b"broken" if (label, number) == ("red", 3) else out.getvalue()
                store.put("photos", f"folders/{label}/{number:02d}.png", content)
                store.put("photos", f"table/images/{label}-{number:02d}.png", content)
                lines.append(f"images/{label}-{number:02d}.png,{label}")
        lines.append("images/gone.png,red")
        store.put("photos", "table/labels.csv", "\n".join(lines).encode())
        yield store


def workspace(work: Path, uri: str) -> Workspace:
    given = {"data.uri": uri, "output": "gs://runs/1", "work_dir": str(work), "data.image_px": 16, "data.max_bad": 0.5}
    given |= {"model.backbone": "mobilenet_025", "model.weights": "none", "data.near_duplicates": False}
    return Workspace.open(configs.load(values=given), Platform("laptop"), JsonConsole(io.StringIO()), Stop())


def together(folder: Path, uri: str, num: int = 2) -> list[Dataset]:
    def one(share: Share) -> Dataset:
        return prepare.dataset(workspace(folder / str(share.worker), uri), share)

    with ThreadPoolExecutor(num) as pool:
        return list(pool.map(one, Meeting(num).shares))


def here(folder: Path) -> set[str]:
    """Returns the images that are on a machine's disk."""
    return {path.name for path in folder.glob("datasets/*/**/*.png") if path.is_file()}


def usable(dataset: Dataset) -> np.ndarray:
    return np.array([row.index for row in dataset.rows if row.verdict is Verdict.OK], np.int64)


@pytest.mark.parametrize(("uri", "num_rows"), [("gs://photos/folders", 24), ("gs://photos/table", 25)])
def test_each_pulls_its_share_and_all_get_what_one_gets(
    uri: str, num_rows: int, bucket: ObjectStore, tmp_path: Path
) -> None:
    alone = prepare.dataset(workspace(tmp_path / "alone", uri))
    assert len(alone.rows) == num_rows
    datasets = together(tmp_path, uri)
    for worker, dataset in enumerate(datasets):
        assert dataset.rows == alone.rows
        share = Meeting(2).shares[worker].rows(num_rows)
        wanted = {Path(alone.rows[row].uri).name for row in share} - {"gone.png"}
        if uri.endswith("table"):
            assert here(tmp_path / str(worker)) == wanted
        else:
            # The classes have the same names in them; a count will do.
            (data,) = (tmp_path / str(worker) / "datasets").iterdir()
            assert sum(path.is_file() for path in data.glob("*/*.png")) == NUM
    wanted_rows = usable(alone)
    for dataset in datasets:
        np.testing.assert_array_equal(dataset.pixels.gather(wanted_rows), alone.pixels.gather(wanted_rows))
        # The export's proof reads original files.
        assert [dataset.encoded(row) for row in (4, 20)] == [alone.encoded(row) for row in (4, 20)]


def test_what_was_fetched_later_changes_nothing_for_the_next_start(bucket: ObjectStore, tmp_path: Path) -> None:
    first, _ = together(tmp_path, "gs://photos/folders")
    first.pixels.gather(usable(first))
    again, _ = together(tmp_path, "gs://photos/folders")
    assert again.is_cached
    assert again.rows == first.rows


def test_an_object_that_is_gone_leaves_no_name_behind(bucket: ObjectStore, tmp_path: Path) -> None:
    first, _ = together(tmp_path, "gs://photos/folders")
    first.pixels.gather(usable(first))
    at("gs://photos").delete("folders/red/11.png")
    at("gs://photos").delete("folders/blue/00.png")
    assert {len(dataset.rows) for dataset in together(tmp_path, "gs://photos/folders")} == {2 * NUM - 2}


def test_a_machine_by_itself_takes_no_share_for_the_whole(bucket: ObjectStore, tmp_path: Path) -> None:
    together(tmp_path, "gs://photos/table")
    alone = prepare.dataset(workspace(tmp_path / "0", "gs://photos/table"))
    assert not alone.is_cached
    assert [row.uri for row in alone.rows if row.verdict is Verdict.MISSING] == ["images/gone.png"]


def test_an_image_that_is_deleted_while_the_job_runs_is_named(bucket: ObjectStore, tmp_path: Path) -> None:
    first, _ = together(tmp_path, "gs://photos/folders")
    at("gs://photos").delete("folders/red/11.png")
    with pytest.raises(InputMissingError, match="red/11.png"):
        first.pixels.gather(usable(first))
