"""`finetune render azureml`: what Azure ML's library takes, and what the job then finds."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from job import cluster, config
from job.cluster import Cluster
from job.dataset import layouts
from job.errors import ConfigError, UsageError
from job.platforms import recognise
from job.render import azureml as renderer
from job.render.azureml import DATA_DIR, Options, render
from tests.unit.managed.places import Spec, azureml, azureml_folders, changed, settings

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGE = "registry.azurecr.io/finetune-job:0.1.0"
GIVEN = {"data.uri": "az://b/photos", "output": "az://b/runs/1", "train.seed": 7, "telemetry.profile_steps": [3, 7]}
Refusal = Callable[[str, str], str]


def text(options: dict[str, Any] | None = None, **values: Any) -> str:
    given = Options(**{"image": IMAGE, "datastore": "photos", **(options or {})})
    return render(config.load(values={**GIVEN, **values}), given)


def job(options: dict[str, Any] | None = None, **values: Any) -> Spec:
    found: Spec = yaml.safe_load(text(options, **values))
    return found


def everything() -> Spec:
    return job({"gpus": 1, "nodes": 3, "spot": True, "register": "flowers"})


def faults(found: Spec) -> list[str]:
    """Returns what the service would refuse and its library lets pass."""
    there = {f"{kind}.{name}" for kind in ("inputs", "outputs") for name in found.get(kind, {})}
    named = set(re.findall(r"\$\{\{(.*?)\}\}", found["command"]))
    without = [name for name, each in found.get("inputs", {}).items() if not each.get("path")]
    return [*sorted(named - there), *sorted(there - named), *without]


def arguments(command: str) -> list[str]:
    """Returns what `python -m job` is called with, as a shell splits it."""
    *_, last = command.split(" && ")
    assert last.startswith(f"{renderer.PROGRAM} ")
    return shlex.split(last.removeprefix(renderer.PROGRAM))


@pytest.mark.parametrize(("gpus", "nodes", "spot"), [*itertools.product((0, 1, 4), (1, 3), (False, True))])
def test_every_choice_is_taken(refusal: Refusal, gpus: int, nodes: int, spot: bool) -> None:
    rendered = text({"gpus": gpus, "nodes": nodes, "spot": spot})
    assert refusal("azureml", rendered) == ""
    found = yaml.safe_load(rendered)
    assert faults(found) == []
    assert found["resources"]["instance_count"] == nodes
    assert found.get("distribution", {}).get("worker_count", 1) == nodes
    assert found.get("queue_settings", {}).get("job_tier", "standard") == ("spot" if spot else "standard")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("type", "kommand"),
        ("command", ...),
        ("command", None),
        ("image", IMAGE),
        ("environment", ...),
        ("environment.image", 7),
        ("inputs.data.type", "folder"),
        ("inputs.data.mode", "rw_mount"),
        ("outputs.output.mode", "readwrite"),
        ("outputs.output.type", "uri"),
        ("resources.instance_count", "three"),
        ("resources.spot", True),
        ("distribution.type", "tf"),
        ("distribution.workers", 3),
        ("queue_settings.job_tier", "cheap"),
        ("limits.timeout", "1 day"),
    ],
)
def test_a_broken_job_is_refused(refusal: Refusal, keys: str, value: Any) -> None:
    assert refusal("azureml", yaml.safe_dump(everything())) == ""
    assert refusal("azureml", yaml.safe_dump(changed(everything(), keys, value)))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("inputs.data.path", ...),
        ("inputs", ...),
        ("outputs.output", ...),
        ("outputs.logs", {"type": "uri_folder"}),
        ("command", "train --data ${{inputs.data}} --output ${{outputs.output}}"),
    ],
)
def test_what_the_library_lets_pass_is_found(refusal: Refusal, keys: str, value: Any) -> None:
    assert faults(everything()) == []
    broken = changed(everything(), keys, value)
    assert refusal("azureml", yaml.safe_dump(broken)) == "", "no need of a rule of our own"
    assert faults(broken)


@pytest.mark.parametrize("machine", [0, 1, 2])
def test_what_was_rendered_is_recognised_with_the_same_settings(tmp_path: Path, machine: int) -> None:
    folders = azureml_folders(everything(), tmp_path, 1)
    command, variables = azureml(everything(), folders, machine)
    platform = recognise(variables)
    assert platform.name == "azureml"
    assert (platform.data_uri, platform.output_uri) == (folders["inputs.data"], folders["outputs.output"])
    assert platform.model_uri == folders["outputs.model"]
    there = {"data.uri": DATA_DIR, "output": folders["outputs.output"]}
    assert settings(arguments(command), platform) == config.load(values={**GIVEN, **there})
    assert cluster.of("auto", {"TF_CONFIG": platform.tf_config or ""}) == Cluster(3, machine)


def test_another_job_on_the_same_output_has_the_same_data(tmp_path: Path) -> None:
    found, uris = job(), set()
    for number in (1, 2):
        folders = azureml_folders(found, tmp_path, number)
        command, variables = azureml(found, folders)
        uris.add(settings(arguments(command), recognise(variables)).data.uri)
    assert uris == {DATA_DIR}


def test_the_command_runs_in_a_shell_and_finds_the_data_and_where_the_model_belongs(tmp_path: Path) -> None:
    # Without variables for inputs and outputs: the documentation promises none.
    found = job({"register": "flowers"}, **{"data.uri": "az://b/my photos"})
    folders = azureml_folders(found, tmp_path, 1)
    image = Path(folders["inputs.data"], "cats", "a cat.jpg")
    image.parent.mkdir()
    image.touch()
    command, _ = azureml(found, folders)
    link = tmp_path / "data"
    here = command.replace(DATA_DIR, str(link)).replace("/opt/venv/bin/python", shlex.quote(sys.executable))
    check, times = re.subn(r" -m job train ", " -m job check --no-data ", here)
    assert times == 1
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path), "AZUREML_RUN_ID": "r"}
    done = subprocess.run(["sh", "-c", check], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (example,) = layouts.read(link, work_dir=tmp_path)
    assert example.label == "cats"
    platform, times = re.subn(r" -m job train .*", " -m job platform", here)
    assert times == 1
    done = subprocess.run(
        ["sh", "-c", platform], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert f"model     {folders['outputs.model']}  (AZURE_ML_OUTPUT_model)" in done.stdout, done.stderr


def test_a_table_is_mounted_with_the_images_beside_it(tmp_path: Path, refusal: Refusal) -> None:
    rendered = text(**{"data.uri": "az://b/photos/my labels.csv"})
    assert refusal("azureml", rendered) == ""
    found = yaml.safe_load(rendered)
    assert found["inputs"]["data"]["path"] == "azureml://datastores/photos/paths/photos"
    command, variables = azureml(found, azureml_folders(found, tmp_path, 1))
    assert settings(arguments(command), recognise(variables)).data.uri == f"{DATA_DIR}/my labels.csv"


def test_assets_and_other_datastores_are_taken_as_they_are(refusal: Refusal) -> None:
    data, output = "azureml:flowers:3", "azureml://datastores/runs/paths/1"
    rendered = text({"datastore": None}, **{"data.uri": data, "output": output})
    assert refusal("azureml", rendered) == ""
    found = yaml.safe_load(rendered)
    assert (found["inputs"]["data"]["path"], found["outputs"]["output"]["path"]) == (data, output)


def test_buckets_elsewhere_are_reached_by_the_job_itself(refusal: Refusal) -> None:
    given = {"data.uri": "gs://b/photos", "output": "s3://b/runs/1"}
    rendered = text({"datastore": None}, **given)
    assert refusal("azureml", rendered) == ""
    found = yaml.safe_load(rendered)
    assert "inputs" not in found
    assert "outputs" not in found
    command, variables = azureml(found, {})
    assert settings(arguments(command), recognise(variables)) == config.load(values={**GIVEN, **given})


def test_a_cluster_has_its_own_machines(refusal: Refusal) -> None:
    rendered = text({"compute": "gpus", "nodes": 2, "max_hours": 1.5, "name": "roses"})
    assert refusal("azureml", rendered) == ""
    found = yaml.safe_load(rendered)
    assert found["compute"] == "azureml:gpus"
    assert found["resources"] == {"instance_count": 2}
    assert found["limits"] == {"timeout": 5400}
    assert found["display_name"] == "roses"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "r/finetune-job"}, "neither a tag nor a digest"),
        ({"gpus": 2}, "have 0, 1, 4"),
        ({"gpus": 1, "machine_type": "Standard_NC24ads_A100_v4"}, "says how many GPUs there are"),
        ({"compute": "gpus", "spot": True}, "says which machines it has"),
        ({"compute": "gpus", "gpus": 1}, "says which machines it has"),
        ({"datastore": None}, "reaches a container through a datastore"),
        ({"register": "my flowers"}, "--register is 'my flowers'"),
        ({"name": "-"}, "--name is '-'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        text(options)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data.uri": "photos"}, "a folder of this machine"),
        ({"output": "runs/1"}, "a folder of this machine"),
        ({"output": "azureml:flowers:3"}, "a folder of this machine"),
        ({"output": "az://c/runs/1"}, "in the containers b and c"),
        ({"data.uri": None}, "data.uri is not set"),
        ({"work_dir": "/scratch"}, "a machine of Azure ML does not have"),
        ({"train.strategy": "multi_worker"}, "--nodes is 1"),
        (
            {"model.weights": "https://h.blob.core.windows.net/w.h5?sv=2024-11-04&sig=0123456789abcdef"},
            "holds a secret",
        ),
    ],
)
def test_what_the_machines_do_not_have_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        text(**values)
    assert caught.value.next_step
