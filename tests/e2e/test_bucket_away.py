"""The bucket of the output goes away while a job runs: nothing that is finished is lost, and training goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job import config as configs
from job import run as jobs
from job.console import Bar, JsonConsole
from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Refuse
from job.errors import StoreAwayError
from job.interruption import Stop
from job.platforms import Platform
from job.storage.gcs import GcsStore
from job.storage.retry import Policy
from job.workspace import Workspace
from tests.e2e.tiny import TINY
from tests.proxy import Proxy, Rule

QUICK = Policy(tries=2, first_wait_s=0.0, max_wait_s=0.0)


class Watching(JsonConsole):
    """Says everything to a string, and calls a hook at the beginning of each stage with a bar."""

    def __init__(self, on_stage: Callable[[str], None]) -> None:
        self.said = io.StringIO()
        super().__init__(self.said)
        self._on_stage = on_stage

    def bar(self, stage: str, *, unit: str) -> Bar:
        self._on_stage(stage)
        return super().bar(stage, unit=unit)

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.said.getvalue().splitlines()]


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore() as started:
        started.make_bucket("bucket")
        yield started


@pytest.fixture
def proxy(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(store.url) as started:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
        yield started


def opened(data: Path, tmp_path: Path, on_stage: Callable[[str], None], *settings: str) -> tuple[Workspace, Watching]:
    """Returns a job on the bucket with a patience of moments, and its console."""
    given = (f"data.uri={data}", "output=gs://bucket/run", f"work_dir={tmp_path}/work", *TINY, *settings)
    console, stop = Watching(on_stage), Stop()
    workspace = Workspace.open(configs.load(None, given), Platform("laptop"), console, stop)
    workspace.output = GcsStore("gs://bucket/run", "bucket", "run", policy=QUICK)
    workspace.away_s = 0.0
    return workspace, console


def test_training_goes_on_without_the_bucket_and_logs_checkpoints_and_status_catch_up(
    store: ObjectStore, proxy: Proxy, squares: Path, tmp_path: Path
) -> None:
    def hook(stage: str) -> None:
        if stage == "head":
            proxy.rules = [Rule(Refuse())]
            seen["away"] = len(store.names("bucket", "run/checkpoints/"))
        elif stage == "finetune":
            seen["still"] = len(store.names("bucket", "run/checkpoints/"))
            seen["hits"] = proxy.rules[0].num_hit
            proxy.rules = []

    seen: dict[str, int] = {}
    settings = ("checkpoint.every_steps=3", "telemetry.mirror_every_s=0.2")
    workspace, console = opened(squares, tmp_path, hook, *settings)
    report = jobs._lead(workspace)
    assert report["winner"]["name"] in ("probe", "head", "finetune")
    assert seen["hits"] > 0
    assert seen["still"] == seen["away"], "nothing came through while the bucket was away"
    said = [str(event["message"]) for event in console.events if event["severity"] == "WARNING"]
    assert any("is kept on this machine only" in message for message in said)
    newest = max(path.name for path in (workspace.folder / "checkpoints").iterdir())
    assert f"run/checkpoints/{newest}/complete.json" in store.names("bucket")
    (events,) = (workspace.folder / "logs").glob("events*")
    assert store.get("bucket", f"run/logs/{events.name}") == events.read_bytes()
    assert json.loads(store.get("bucket", "run/status.json"))["state"] == "done"
    assert "run/report.json" in store.names("bucket")


def test_a_bucket_that_never_comes_back_ends_with_75_and_the_work_is_delivered_later(
    store: ObjectStore, proxy: Proxy, squares: Path, tmp_path: Path
) -> None:
    def away(stage: str) -> None:
        if stage == "probe":
            proxy.rules = [Rule(Refuse())]

    workspace, _ = opened(squares, tmp_path, away, "train.preset=fast")
    with pytest.raises(StoreAwayError) as caught:
        jobs._lead(workspace)
    assert caught.value.exit_code == 75
    assert f"The finished work is kept in {workspace.folder}" in caught.value.message
    assert "same work_dir" in caught.value.next_step
    assert (workspace.folder / "export" / "1" / "saved_model.pb").is_file()
    assert not [name for name in store.names("bucket") if "/export/" in name]
    proxy.rules = []
    # This process holds it still: in a new one the lease of a dead process is taken over.
    store.forget("bucket", "run/lease.json")
    stages: list[str] = []
    again, _ = opened(squares, tmp_path, stages.append, "train.preset=fast")
    jobs._lead(again)
    assert "probe" not in stages, "what was trained is not trained again"
    assert "run/report.json" in store.names("bucket")
    assert "run/export/1/saved_model.pb" in store.names("bucket")
