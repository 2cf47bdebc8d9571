"""Errors of the user, through the container: the code that Kubernetes decides by, and the reason where it is shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.image.containers import HARDENED, Podman, mounted, settings

ISOLATED = (*HARDENED, "--network=none")


def test_a_wrong_command_line(podman: Podman, image: str) -> None:
    done = podman.run(image, "train", "--nonsense", flags=ISOLATED)
    assert done.code == 2
    assert "--nonsense" in done.stderr


def test_a_wrong_setting_is_told_in_the_termination_log(podman: Podman, image: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    log.chmod(0o666)
    flags = (*ISOLATED, f"--volume={log}:/dev/termination-log:rw")
    done = podman.run(image, "train", "--set", "train.batchsize=8", flags=flags)
    assert (done.code, done.error["exit_code"]) == (78, 78)
    assert "train.batchsize" in log.read_text()


def test_a_dataset_of_one_class(podman: Podman, image: str, parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "dent", tmp_path / "data" / "dent")
    flags = (*ISOLATED, mounted(tmp_path / "data", "/data", read_only=True), mounted(tmp_path / "run", "/run/job"))
    done = podman.run(image, "train", "--data", "/data", "--output", "/run/job/1", *settings(), flags=flags)
    assert (done.code, done.error["exit_code"]) == (65, 65), done.stderr
    assert not (tmp_path / "run" / "1" / "report.json").exists()


@pytest.mark.parametrize("data", ["gs://nowhere/parts", "/nowhere"])
def test_data_that_is_not_there(
    data: str, podman: Podman, image: str, connected: tuple[str, ...], tmp_path: Path
) -> None:
    output = f"gs://runs/{tmp_path.name}"
    done = podman.run(image, "train", "--data", data, "--output", output, *settings(), flags=connected)
    assert (done.code, done.error["exit_code"]) == (66, 66), done.stderr
    assert data in done.error["message"]


def test_an_output_of_somebody_else(podman: Podman, image: str, parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = (*ISOLATED, f"--volume={parts}:/data:ro", mounted(folder, "/output"))
    folder.chmod(0o755)
    done = podman.run(image, "train", "--data", "/data", "--output", "/output/1", *settings(), flags=flags)
    assert (done.code, done.error["exit_code"]) == (77, 77), done.stderr
    assert "/output/1" in done.error["message"]
