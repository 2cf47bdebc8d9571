"""The commands of docs/kubernetes.md are run, as far as they need no cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from job.cli import app
from tests.unit.manifests.kustomize import COMPONENTS, K8S, OVERLAYS, REPOSITORY, kustomize
from tests.unit.manifests.rules import faults

PAGE = (REPOSITORY / "docs" / "kubernetes.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
RENDERS = [line for line in COMMANDS if line.startswith("finetune render")]
APPLIES = [line for line in COMMANDS if line.startswith("kubectl apply")]
NEED_A_CLUSTER = ("kubectl logs", "kubectl get", "kubectl port-forward")


def test_every_command_is_run_or_needs_a_cluster() -> None:
    others = [line for line in COMMANDS if line not in RENDERS and line not in APPLIES]
    assert RENDERS
    assert APPLIES
    assert [line for line in others if not line.startswith(NEED_A_CLUSTER)] == []


@pytest.mark.parametrize("line", RENDERS)
def test_a_render_command_prints_what_the_cluster_takes(line: str, tmp_path: Path) -> None:
    line, _, to = line.partition(" | ")
    assert to in ("", "kubectl apply -f -", "kubectl replace --force -f -")
    shutil.copy(K8S / "base" / "config.yaml", tmp_path)
    program = [sys.executable, "-m", "job", *line.split()[1:]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    assert faults(manifests) == []
    # The page speaks of the name that this config gets.
    assert {manifest["metadata"]["name"] for manifest in manifests} >= {"finetune", "finetune-first-7f25fb"}
    for manifest in manifests:
        if manifest["kind"] != "JobSet":
            kubernetes_validate.validate(manifest, "1.31", strict=True)


@pytest.mark.parametrize("line", APPLIES)
def test_what_is_applied_is_there(line: str) -> None:
    how, path = line.split()[2:]
    if how == "-k":
        assert faults(kustomize(REPOSITORY / path), there=("ServiceAccount/finetune",)) == []
    else:
        kubernetes_validate.validate(yaml.safe_load((REPOSITORY / path).read_text()), "1.31", strict=True)


def test_the_overlay_on_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    shutil.copytree(K8S, tmp_path / "k8s")
    mine = tmp_path / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(text)
    manifests = kustomize(mine)
    assert faults(manifests, there=("PersistentVolumeClaim/finetune-scratch",)) == []
    job = next(manifest for manifest in manifests if manifest["kind"] == "Job")
    assert job["metadata"]["name"] == "flowers"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision"


def test_every_option_overlay_and_component_is_on_the_page_and_no_other() -> None:
    render = get_command(app).commands["render"].commands["kubernetes"]  # type: ignore[attr-defined]
    options = {option for parameter in render.params for option in parameter.opts if option.startswith("--")}
    explained = set(re.findall(r"--[a-z][a-z-]*", PAGE)) - {"--force"}
    assert explained - options == {"--grace"}, "which is of finetune train"
    assert options <= explained
    rows = set(re.findall(r"`([a-z0-9-]+)`", "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))))
    assert {folder.name for folder in (*OVERLAYS, *COMPONENTS)} - rows == set()


def test_the_codes_on_the_page_are_those_of_the_manifest() -> None:
    (row,) = re.findall(r"^\| ([\d, ]+) \| fails at once", PAGE, re.M)
    rules = yaml.safe_load((K8S / "base" / "job.yaml").read_text())["spec"]["podFailurePolicy"]["rules"]
    assert [int(code) for code in row.split(",")] == rules[1]["onExitCodes"]["values"]
