"""TensorBoard as the Deployment starts it answers its probes before there is a run, and shows the first that comes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
import urllib3

from job.demo.object_store import ObjectStore
from job.storage import at
from tests import deployed_tensorboard

MAX_REQUESTS = 30_000


def test_it_answers_its_probes_in_an_empty_bucket_and_shows_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        with deployed_tensorboard.started("gs://bucket/runs") as address:
            container = deployed_tensorboard.container()
            for probe in ("readinessProbe", "livenessProbe"):
                assert urllib3.request("GET", address + container[probe]["httpGet"]["path"]).status == 200
            assert urllib3.request("GET", f"{address}/healthz").status == 404, "the probes could ask for it"

            summaries = tf.summary.create_file_writer(str(tmp_path))
            with summaries.as_default():
                tf.summary.scalar("head/loss", 1.0, step=1)
            summaries.close()
            (path,) = tmp_path.iterdir()
            at("gs://bucket/runs/1").upload(path, f"logs/{path.name}")

            for _ in range(MAX_REQUESTS):
                tags = urllib3.request("GET", f"{address}/data/plugin/scalars/tags").json()
                if tags:
                    break
            assert {run: list(found) for run, found in tags.items()} == {"1/logs": ["head/loss"]}
