"""What a job finds where each service starts it, made from a specification as the service makes it.

Sources: those of `job/platforms/vertex.py`, `sagemaker.py` and `azureml.py`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from job import config as configs
from job.cli import app
from job.config import Config
from job.platforms import Platform
from job.workspace import filled_in

Spec = dict[str, Any]


def changed(spec: Spec, keys: str, value: Any) -> Spec:
    """Returns a copy with `a.0.b` set, or removed where the value is `...`."""
    copy: Spec = json.loads(json.dumps(spec))
    node: Any = copy
    *parents, last = keys.split(".")
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is ...:
        del node[int(last) if isinstance(node, list) else last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return copy


def settings(arguments: list[str], platform: Platform) -> Config:
    """Returns the settings of `finetune train` with these arguments, read by the command itself, on this platform."""
    command, *rest = arguments
    assert command == "train"
    given = get_command(app).commands["train"].make_context("train", rest).params  # type: ignore[attr-defined]
    assert given["grace"] is None, "the platform knows it"
    uris = {"data.uri": given["data"], "output": given["output"]}
    overrides = [*platform.overrides, *(given["overrides"] or ())]
    values = {key: uri for key, uri in uris.items() if uri is not None}
    return filled_in(configs.load(given["config"], overrides, values=values), platform)


def vertex(spec: Spec, machine: int = 0) -> tuple[list[str], dict[str, str]]:
    """Returns the arguments and variables of one machine's container."""
    pools = spec["workerPoolSpecs"]
    hosts = [[f"cmle-training-workerpool{n}-7-{m}:2222" for m in range(p["replicaCount"])] for n, p in enumerate(pools)]
    kind, index = ("chief", 0) if machine == 0 else ("worker", machine - 1)
    task = {"type": kind, "index": index, "cloud": "c"}
    cluster = dict(zip(("chief", "worker"), hosts, strict=False))
    base = spec["baseOutputDirectory"]["outputUriPrefix"].rstrip("/")
    folders = {"MODEL_DIR": "model", "CHECKPOINT_DIR": "checkpoints", "TENSORBOARD_LOG_DIR": "logs"}
    variables = {
        "CLOUD_ML_JOB_ID": "7",
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": task, "environment": "cloud", "job": "{}"}),
        **{f"AIP_{name}": f"{base}/{folder}/" for name, folder in folders.items()},
    }
    return pools[min(machine, 1)]["containerSpec"]["args"], variables


def sagemaker(request: Spec, root: Path, host: int = 1) -> tuple[list[str], dict[str, str]]:
    """Makes one machine's /opt/ml at `root`; returns the arguments and variables of its container."""

    def here(path: str) -> Path:
        return root / Path(path).relative_to("/opt/ml")

    channels = {
        channel["ChannelName"]: {
            "TrainingInputMode": channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"]),
            "S3DistributionType": channel["DataSource"]["S3DataSource"]["S3DataDistributionType"],
            "RecordWrapperType": "None",
        }
        for channel in request.get("InputDataConfig", [])
    }
    for folder in ("input/config", "model", "output/data", *(f"input/data/{name}" for name in channels)):
        (root / folder).mkdir(parents=True)
    here(request["TensorBoardOutputConfig"]["LocalPath"]).mkdir()
    if "CheckpointConfig" in request:
        here(request["CheckpointConfig"]["LocalPath"]).mkdir()
    hosts = [f"algo-{n + 1}" for n in range(request["ResourceConfig"]["InstanceCount"])]
    written = {
        "hyperparameters": request["HyperParameters"],
        "inputdataconfig": channels,
        "resourceconfig": {"current_host": f"algo-{host}", "hosts": hosts, "network_interface_name": "eth0"},
    }
    for name, content in written.items():
        (root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    return ["train"], {"TRAINING_JOB_NAME": request["TrainingJobName"], **request["Environment"]}


def azureml_folders(job: Spec, root: Path, number: int) -> dict[str, str]:
    """Makes what is mounted for a job, below a folder of its own; returns `inputs.data` → path and so on."""
    folders = {}
    for kind in ("inputs", "outputs"):
        for name in job.get(kind, {}):
            folder = root / f"job-{number}" / f"{kind}_{name}"
            folder.mkdir(parents=True)
            folders[f"{kind}.{name}"] = str(folder)
    return folders


def azureml(job: Spec, folders: Mapping[str, str], machine: int = 0) -> tuple[str, dict[str, str]]:
    """Returns the command with its expressions replaced, and the variables of one machine.

    Raises:
        KeyError: When the command names an input or output that the job does not have.
    """
    command = re.sub(r"\$\{\{(.*?)\}\}", lambda found: shlex.quote(folders[found[1].strip()]), job["command"])
    variables = {"AZUREML_RUN_ID": "r", **job.get("environment_variables", {})}
    for name, folder in folders.items():
        kind, _, what = name.partition("s.")
        variables[f"AZURE_ML_{kind.upper()}_{what}"] = folder
    if workers := job.get("distribution", {}).get("worker_count"):
        cluster = {"worker": [f"10.0.0.{n}:2222" for n in range(workers)]}
        task = {"type": "worker", "index": machine}
        variables["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task, "environment": "cloud"})
    return command, variables
