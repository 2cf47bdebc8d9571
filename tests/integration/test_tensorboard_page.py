"""The commands of docs/tensorboard.md are run, word for word, as far as they need no cluster."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from tests.unit.manifests.kustomize import REPOSITORY, kustomize

PAGE = (REPOSITORY / "docs" / "tensorboard.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
OURS = [line for line in COMMANDS if line.startswith("finetune tensorboard ")]


def test_what_is_not_run_needs_a_cluster_and_names_what_is_there() -> None:
    apply, forward = [line for line in COMMANDS if line not in OURS]
    *command, folder = apply.split()
    assert command == ["kubectl", "apply", "-k"]
    (service,) = [each for each in kustomize(REPOSITORY / folder) if each["kind"] == "Service"]
    assert (
        forward == f"kubectl port-forward service/{service['metadata']['name']} {service['spec']['ports'][0]['port']}"
    )


@pytest.mark.parametrize("line", OURS)
def test_a_command_serves_a_run_or_a_folder_of_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "1" / "logs").mkdir(parents=True)
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.put("bucket", "runs/1/logs/events.out.tfevents.1", b"")
        program = [sys.executable, "-m", "job", *line.split()[1:]]
        with subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["url"].startswith("http://localhost:")
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(60) == 0


def test_the_screenshot_is_there_and_small() -> None:
    (name,) = re.findall(r"!\[.*\]\((.*)\)", PAGE)
    assert (REPOSITORY / "docs" / name).stat().st_size < 200_000
