"""Whole jobs from what `finetune render` prints, with the variables, mounts and buckets that the services give them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from job import config
from job.demo.object_store import ObjectStore
from job.render import azureml, vertex
from job.storage import at, transfer
from tests.e2e.tiny import REPOSITORY, TINY, Done
from tests.unit.managed import places

SETTINGS = (*TINY, "train.preset=fast")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps downloads and caches where the test ends: the services' machines have a folder of their own for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
def test_vertex_ai_finds_the_run_and_the_model_alone_where_it_looks(
    run: Callable[..., Done], squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        transfer.push(squares, at("gs://bucket/squares"))
        given = config.load(
            overrides=SETTINGS, values={"data.uri": "gs://bucket/squares", "output": "gs://bucket/runs/1"}
        )
        spec = yaml.safe_load(vertex.render(given, vertex.Options(image="r/finetune-job:0.1.0", spot=True)))
        arguments, variables = places.vertex(spec)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        done = run(*arguments)
        assert done.code == 0, done.stderr
        names = {info.name for info in at("gs://bucket/runs/1").list()}
    assert {"report.json", "export/1/saved_model.pb", "model/saved_model.pb"} <= names
    assert any(name.startswith("logs/events") for name in names)


@pytest.mark.usefixtures("cache")
def test_azure_ml_s_next_job_on_an_output_knows_the_run_though_its_mounts_are_elsewhere(
    squares: Path, tmp_path: Path
) -> None:
    given = config.load(overrides=SETTINGS, values={"data.uri": "az://c/squares", "output": "az://c/runs/1"})
    options = azureml.Options(image="r/finetune-job:0.1.0", datastore="photos", register="squares")
    job = yaml.safe_load(azureml.render(given, options))
    output = tmp_path / "container" / "runs" / "1"
    output.mkdir(parents=True)
    seen = []
    for number in (1, 2):
        folders = places.azureml_folders(job, tmp_path, number)
        # What is mounted there.
        for name, storage in (("inputs.data", squares), ("outputs.output", output)):
            Path(folders[name]).rmdir()
            Path(folders[name]).symlink_to(storage)
        command, variables = places.azureml(job, folders)
        here = command.replace("/opt/venv/bin/python", shlex.quote(sys.executable))
        linked = in_shell(here.replace(azureml.DATA_DIR, str(tmp_path / "data")), variables)
        assert linked.returncode == 0, linked.stderr
        assert Path(folders["outputs.model"], "saved_model.pb").is_file()
        seen.append((output / "report.json").read_bytes())
    assert seen[0] == seen[1], "the second job only read it"
    # What the link is for.
    refused = in_shell(here.replace(azureml.DATA_DIR, folders["inputs.data"]).partition(" && ")[2], variables)
    assert refused.returncode == 78
    assert "belongs to a run with another config" in refused.stderr


def in_shell(command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **variables}
    return subprocess.run(
        ["sh", "-c", command], env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
    )
