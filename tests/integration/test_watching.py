"""`finetune tensorboard`: the real TensorBoard, asked over HTTP, while a run grows."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import urllib3

from job.demo.object_store import ObjectStore
from job.errors import InputMissingError, UsageError
from job.storage import at
from job.watching import Copy

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_REQUESTS = 30_000


class Writer:
    """Writes the logs of a run as the job does: to a local folder, copied to the output after each flush."""

    def __init__(self, logs_dir: Path, output: str) -> None:
        self._logs_dir, self._output = logs_dir, output
        self._summaries = tf.summary.create_file_writer(str(logs_dir))

    def write(self, tag: str, step: int) -> None:
        with self._summaries.as_default():
            tf.summary.scalar(tag, 1.0, step=step)
        self._summaries.flush()
        if self._output.startswith("gs://"):
            (path,) = self._logs_dir.iterdir()
            at(self._output).upload(path, f"logs/{path.name}")


@pytest.fixture(params=["folder", "bucket"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        if request.param == "bucket":
            store = stack.enter_context(ObjectStore())
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
            store.make_bucket("bucket")
            at("gs://bucket/runs/1").write("config.yaml", b"{}")
            yield "gs://bucket/runs/1"
        else:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "config.yaml").write_text("{}")
            yield str(tmp_path / "run")


@pytest.fixture
def tensorboard() -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str]]]:
    with contextlib.ExitStack() as stack:

        def start(uri: str) -> tuple[subprocess.Popen[str], str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "job", "tensorboard", uri, "--every", "1"],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, json.loads(process.stdout.readline())["url"]

        yield start


def _until(ask: Callable[[], Any], is_there: Callable[[Any], bool]) -> Any:
    """Returns the first answer that is right; a request takes its time, so nothing sleeps."""
    for _ in range(MAX_REQUESTS):
        if is_there(answer := ask()):
            return answer
    raise AssertionError(f"after {MAX_REQUESTS} requests the answer is still {answer}")


def test_tensorboard_shows_a_run_while_it_grows_and_ends_with_0(
    output: str, tmp_path: Path, tensorboard: Callable[[str], tuple[subprocess.Popen[str], str]]
) -> None:
    writer = Writer(Path(output) / "logs" if output.startswith("/") else tmp_path / "logs", output)
    writer.write("head/loss", 1)
    process, url = tensorboard(output)

    def tags() -> set[str]:
        found = urllib3.request("GET", f"{url}/data/plugin/scalars/tags").json()
        return {tag for tags in found.values() for tag in tags}

    def steps() -> list[int]:
        runs = urllib3.request("GET", f"{url}/data/runs").json()
        query = {"run": next(iter(runs), "."), "tag": "head/loss"}
        answer = urllib3.request("GET", f"{url}/data/plugin/scalars/scalars", fields=query)
        return [step for _, step, _ in answer.json()] if answer.status == 200 else []

    _until(tags, lambda found: found == {"head/loss"})
    writer.write("head/loss", 2)
    writer.write("finetune/loss", 1)
    _until(tags, lambda found: found == {"head/loss", "finetune/loss"})
    assert _until(steps, lambda found: len(found) == 2) == [1, 2]

    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_what_grew_is_appended_to_the_file_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.put("bucket", "runs/1/logs/events.out.tfevents.1", b"one")
        store.put("bucket", "runs/2/logs/validation/events.out.tfevents.1", b"other run")
        store.put("bucket", "runs/2/logs/plugins/profile/2026_11_24/vm.xplane.pb", b"what the profiler recorded")
        store.put("bucket", "runs/2/checkpoints/7/weights", b"no log")
        copy = Copy(at("gs://bucket/runs"), tmp_path)
        assert copy.refresh() == 3
        assert list(copy.logs_dir.glob("2/logs/plugins/profile/*/vm.xplane.pb"))
        held = (copy.logs_dir / "1" / "logs" / "events.out.tfevents.1").open("rb")
        assert held.read() == b"one"
        store.put("bucket", "runs/1/logs/events.out.tfevents.1", b"one, two")
        assert copy.refresh() == 1
        with held:
            assert held.read() == b", two"
        assert copy.refresh() == 0
        store.put("bucket", "runs/1/logs/events.out.tfevents.1", b"new")
        assert copy.refresh() == 1
        assert (copy.logs_dir / "1" / "logs" / "events.out.tfevents.1").read_bytes() == b"new"
        assert not list(copy.logs_dir.rglob("weights"))


def test_a_misspelt_run_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from job.console import console
    from job.watching import watch

    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(InputMissingError, match="There is no folder"):
        watch(str(tmp_path / "rum"), console(), host="localhost", port=None, every_s=1)
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        with pytest.raises(InputMissingError, match="nothing is below gs://bucket/rum/"):
            watch("gs://bucket/rum", console(), host="localhost", port=None, every_s=1)


# TensorBoard's own copy of html5lib warns when it is imported.
@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    import socket

    from job.watching import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="--port|port") as refused:
            serve(tmp_path, host="127.0.0.1", port=taken.getsockname()[1], every_s=1)
    assert refused.value.exit_code == 2
