"""Two workers pull their shares of a manifest's images, or of TFRecord shards, and train what one machine trains."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.demo.object_store import ObjectStore
from tests import shards
from tests.e2e.tiny import train_arguments
from tests.e2e.workers import both

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("untraced")]

NUM_SHARDS = 4


@pytest.fixture
def fetched() -> list[str]:
    """Returns the objects of which content was asked for, in turn."""
    return []


@pytest.fixture
def bucket(
    squares: Path, undisturbed: Path, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """The squares, in the order in which one machine read them: named by full URIs in a manifest, and as shards."""

    def note(method: str, target: str, headers: Mapping[str, str]) -> None:
        if method == "GET" and "alt=media" in target:
            fetched.append(target.partition("?")[0])

    with ObjectStore(fault=note) as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        images = [((squares / row["uri"]).read_bytes(), row["label"], row["uri"]) for row in table(undisturbed)]
        for content, _, uri in images:
            store.put("pictures", uri, content)
        named = "".join(f"gs://pictures/{uri},{label}\n" for _, label, uri in images)
        store.put("data", "named/labels.csv", f"image,label\n{named}".encode())
        for number in range(NUM_SHARDS):
            part = images[len(images) * number // NUM_SHARDS : len(images) * (number + 1) // NUM_SHARDS]
            content = shards.write(tmp_path / "shard", [(content, label) for content, label, _ in part])
            store.put("data", f"records/squares-{number:05d}-of-{NUM_SHARDS:05d}", content)
        yield store


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "dataset.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of_an_image(row: dict[str, str]) -> list[str]:
    return [row[name] for name in ("label", "split", "verdict", "sha256")]


def standings(report: dict[str, Any]) -> dict[str, float]:
    return {one["name"]: one["log_loss"] for one in report["winner"]["standings"]}


@pytest.mark.parametrize(("data", "num_pulled", "num_objects"), [("named", (37, 36), 73), ("records", (2, 2), 4)])
def test_each_pulls_its_share_and_they_train_what_one_trains(
    data: str,
    num_pulled: tuple[int, int],
    num_objects: int,
    bucket: ObjectStore,
    fetched: list[str],
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    works = [tmp_path / f"work-{index}" for index in (0, 1)]
    workers = both([train_arguments(f"gs://data/{data}", f"{tmp_path}/run", work) for work in works])
    assert [done.code for done in workers] == [0, 0], [done.stderr[-2000:] for done in workers]
    # The last pull of each; before it all pulled the manifest.
    pulled = [[event for event in done.events if "objects" in event][-1]["objects"] for done in workers]
    assert tuple(pulled) == num_pulled
    times = {name: fetched.count(name) for name in fetched if "labels.csv" not in name}
    assert len(times) == num_objects
    assert max(times.values()) <= 2
    tables = [table(tmp_path / "run"), *(table(*work.glob("runs/*")) for work in works)]
    assert tables[0] == tables[1] == tables[2]
    assert list(map(of_an_image, tables[0])) == list(map(of_an_image, table(undisturbed)))
    ours, theirs = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "run", undisturbed))
    assert set(standings(ours)) == {"probe", "head", "finetune"}
    for name, log_loss in standings(theirs).items():
        np.testing.assert_allclose(standings(ours)[name], log_loss, rtol=1e-3)
    assert ours["test"]["scores"]["accuracy"] == theirs["test"]["scores"]["accuracy"]
