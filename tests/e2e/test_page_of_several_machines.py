"""The commands of docs/several-machines.md are run, as far as they need no cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from job import config as configs
from tests.e2e import test_machines_on_a_network
from tests.e2e.tiny import REPOSITORY, TINY, environment
from tests.ports import free_ports
from tests.unit.manifests.kustomize import K8S
from tests.unit.manifests.rules import faults

pytestmark = pytest.mark.cluster

PAGE = (REPOSITORY / "docs" / "several-machines.md").read_text(encoding="utf-8")
RENDER, PODS, LOOPBACK = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_render_command_prints_what_the_cluster_takes(tmp_path: Path) -> None:
    line, _, to = RENDER.strip().partition(" | ")
    assert to == "kubectl apply -f -"
    shutil.copy(K8S / "base" / "config.yaml", tmp_path)
    program = [sys.executable, "-m", "job", *line.split()[1:]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    assert faults(manifests) == []
    (job,) = (manifest["spec"] for manifest in manifests if manifest["kind"] == "Job")
    assert (job["completionMode"], job["completions"]) == ("Indexed", 2)


def test_the_variables_are_those_with_which_pods_are_run_on_a_network() -> None:
    # test_machines_on_a_network.py runs them, on as many machines as the page says.
    exported = dict(re.findall(r"(\w+)=(\S+)", PODS))
    assert PODS.splitlines()[-1] == "finetune train config.yaml"
    assert exported == {**test_machines_on_a_network.POD, "FINETUNE_WORKERS": "3", "JOB_COMPLETION_INDEX": "0"}
    assert "On the second `JOB_COMPLETION_INDEX` is 1, on the third 2." in PAGE.replace("\n", " ")


def test_two_workers_on_one_machine_finish_as_on_the_page(squares: Path, tmp_path: Path) -> None:
    # That two train what one trains is shown in test_several_machines.py.
    settings = [*TINY, "train.preset=fast", f"data.uri={squares}", "output=runs/1", f"work_dir={tmp_path / 'work'}"]
    (tmp_path / "config.yaml").write_text(configs.to_yaml(configs.load(None, settings)))
    first, second = free_ports(2)
    assert "2222" in LOOPBACK
    assert "2223" in LOOPBACK
    done = subprocess.run(
        ["bash", "-c", LOOPBACK.replace("2222", str(first)).replace("2223", str(second))],
        cwd=tmp_path,
        env=environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "runs" / "1" / "report.json").read_text())
    assert report["run"]["devices"] == "2 x CPU"
