"""One dataset in every layout, on a bucket that notes what is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from job.demo.object_store import ObjectStore
from tests import shards
from tests.integration.shares.machines import COLORS, NUM, SHARDS, Fetched, png


@pytest.fixture
def fetched() -> Fetched:
    return Fetched()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, fetched: Fetched, tmp_path: Path) -> Iterator[ObjectStore]:
    """Two classes of twelve images, one of them broken, in every layout; one table also names one that is not there."""
    with ObjectStore(fault=fetched) as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        for name in ("photos", "pictures", "runs"):
            store.make_bucket(name)
        images = [
            (f"{label}-{number:02d}.png", b"broken" if (label, number) == ("red", 3) else png(number, color), label)
            for label, color in COLORS.items()
            for number in range(NUM)
        ]
        for name, content, label in images:
            store.put("photos", f"folders/{label}/{name}", content)
            store.put("photos", f"table/images/{name}", content)
            store.put("photos", f"list/images/{name}", content)
            store.put("pictures", f"{label}/{name}", content)
        beside = "".join(f"images/{name},{label}\n" for name, _, label in images)
        store.put("photos", "list/labels.csv", f"image,label\n{beside}".encode())
        store.put("photos", "table/labels.csv", f"image,label\n{beside}images/gone.png,red\n".encode())
        named = "".join(f"gs://pictures/{label}/{name},{label}\n" for name, _, label in images)
        (tmp_path / "labels.csv").write_text(f"image,label\n{named}")
        for split, part in (("training", images[4:]), ("test", images[:4])):
            lines = [
                {"imageGcsUri": f"gs://pictures/{label}/{name}", "classificationAnnotation": {"displayName": label}}
                for name, _, label in part
            ]
            store.put("photos", f"managed/{split}-00000-of-00001.jsonl", "\n".join(map(json.dumps, lines)).encode())
        for number, end in enumerate(np.cumsum(SHARDS)):
            part = [(content, label) for _, content, label in images[end - SHARDS[number] : end]]
            name = f"train-{number:05d}-of-{len(SHARDS):05d}"
            store.put("photos", f"records/{name}", shards.write(tmp_path / "shard", part))
        yield store
