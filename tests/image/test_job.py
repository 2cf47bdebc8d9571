"""The whole job in a hardened container, from a bucket to a bucket; stopped, killed, and started again elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from job.storage import Store, at, transfer
from tests.e2e.tiny import assert_same_result
from tests.image.containers import HARDENED, NO_SHELL, Podman, mounted, settings


def _arguments(run: str, *changes: str) -> list[str]:
    data = ["--data", "gs://photos/parts", "--output", f"gs://runs/{run}"]
    return ["train", *data, *settings("work_dir=/scratch", *changes)]


def _saved(runs: Store, run: str) -> Callable[[], bool]:
    def is_saved() -> bool:
        return any(f"{run}/checkpoints/" in info.name and info.name.endswith("complete.json") for info in runs.list())

    return is_saved


@pytest.fixture(scope="module")
def undisturbed(
    podman: Podman, image: str, connected: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Returns the name of a run that nothing disturbed, made without a shell in the image."""
    scratch = mounted(tmp_path_factory.mktemp("scratch"), "/scratch")
    done = podman.run(image, *_arguments("undisturbed"), flags=(*connected, *NO_SHELL, scratch))
    assert done.code == 0, done.stderr
    return "undisturbed"


def _copy(runs: Store, run: str, to: Path) -> Path:
    transfer.pull(at(f"{runs.uri}/{run}"), to / run)
    return to / run


def test_from_a_bucket_to_a_bucket(undisturbed: str, runs: Store, tmp_path: Path) -> None:
    output = _copy(runs, undisturbed, tmp_path)
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    promised = {"config.yaml", "dataset.csv", "report.json", "report.md", "report/index.html", "model_card.md"}
    assert {*promised, "export/1/saved_model.pb", "export/1/assets.extra/prove.py"} <= names
    assert "lease.json" not in names
    report = json.loads((output / "report.json").read_text())
    assert report["accepted"] is True
    assert report["data"]["num_images"] == 60 + 5
    assert report["test"]["scores"]["accuracy"] > 0.4  # one in five by chance


def test_the_image_predicts_with_what_it_trained(
    undisturbed: str, podman: Podman, image: str, connected: tuple[str, ...]
) -> None:
    done = podman.run(image, "predict", f"gs://runs/{undisturbed}", "gs://photos/parts/dent", flags=connected)
    assert done.code == 0, done.stderr
    assert done.stdout.count("dent-00") >= 12


def test_the_same_container_again_only_reads_the_report(
    undisturbed: str, podman: Podman, image: str, connected: tuple[str, ...], runs: Store, tmp_path: Path
) -> None:
    before = {info.name: info.checksum for info in runs.list()}
    flags = (*connected, mounted(tmp_path / "scratch", "/scratch"))
    done = podman.run(image, *_arguments(undisturbed), flags=flags)
    assert done.code == 0, done.stderr
    assert [event["message"].split(":")[0] for event in done.events] == ["Done"]
    assert {info.name: info.checksum for info in runs.list()} == before


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("KILL", 137)])
def test_ended_by_a_signal_it_goes_on_on_another_machine_to_the_same_result(
    signal: str,
    code: int,
    undisturbed: str,
    podman: Podman,
    image: str,
    connected: tuple[str, ...],
    runs: Store,
    tmp_path: Path,
) -> None:
    run = f"ended-by-{signal.lower()}"
    arguments = _arguments(run, "checkpoint.every_steps=3")
    first = (*connected, mounted(tmp_path / "first", "/scratch"))
    with podman.started(image, *arguments, flags=first) as container:
        assert container.reaches(_saved(runs, run)), container.ended().stderr
        container.signal(signal)
        ended = container.ended()
    assert ended.code == code, ended.stderr
    names = {info.name for info in runs.list()}
    assert f"{run}/report.json" not in names
    # Who was asked to stop gives the output back; who was killed leaves the lease behind, to be taken over.
    assert (f"{run}/lease.json" in names) == (signal == "KILL")
    # Another machine: nothing is left but what the bucket holds.
    second = (*connected, mounted(tmp_path / "second", "/scratch"))
    done = podman.run(image, *arguments, flags=second)
    assert done.code == 0, done.stderr
    assert any(event["message"].startswith("Going on from checkpoint") for event in done.events)
    assert_same_result(_copy(runs, undisturbed, tmp_path), _copy(runs, run, tmp_path))


def test_too_little_memory_kills_it_and_not_the_machine(
    podman: Podman, image: str, connected: tuple[str, ...], tmp_path: Path
) -> None:
    flags = (*connected, "--memory=128m", mounted(tmp_path / "scratch", "/scratch"))
    assert podman.run(image, *_arguments("starved"), flags=flags).code == 137


def test_where_it_could_it_writes_nothing_outside_tmp_and_the_mounts(
    podman: Podman, image: str, parts: Path, tmp_path: Path
) -> None:
    writable = ("--tmpfs=/tmp:rw,mode=1777", "--user=0", "--network=none", "--shm-size=256m")
    flags = (*writable, f"--volume={parts}:/data:ro", mounted(tmp_path / "output", "/output"))
    arguments = ["train", "--data", "/data", "--output", "/output/1", *settings("train.preset=fast")]
    assert "--read-only" in HARDENED
    with podman.started(image, *arguments, flags=flags) as container:
        assert container.ended().code == 0
        # Where volumes were mounted, the folders themselves.
        assert {change.split()[1] for change in container.changes()} <= {"/data", "/output", "/etc", "/run"}
    assert (tmp_path / "output" / "1" / "report.json").is_file()
