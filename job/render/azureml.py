"""Azure ML: a command job, as `az ml job create --file` takes it.

Its input `data` and its outputs `output` and `model` have the names that `job/platforms/azureml.py` looks for. The
command names their folders as well: the documentation promises no variables for them.
Sources: learn.microsoft.com/azure/machine-learning/reference-yaml-job-command, .../how-to-read-write-data-v2,
.../how-to-use-serverless-compute, .../how-to-train-distributed-gpu
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from job.config import Config
from job.dataset import layouts
from job.errors import ConfigError, UsageError
from job.render.managed import Machines, checked, machine_type, refuse_local
from job.render.submission import as_settings, refuse_secrets
from job.storage import join

SERVICE = "Azure ML"
MACHINES = {0: "Standard_D4s_v3", 1: "Standard_NC4as_T4_v3", 4: "Standard_NC64as_T4_v3"}
"""GPUs → the smallest machine of the family that has so many T4. Source: Azure, "NCasT4_v3 size series"."""

PROGRAM = "exec /opt/venv/bin/python -m job"
"""The image's entry point, which Azure ML does not call: it runs a command in a shell, and `exec` takes the shell's
place, which would keep SIGTERM to itself."""

DATA_DIR = "/tmp/data"
"""A link to where the data is mounted, a folder with the job's number in its name: a run that goes on in another job
would have other data."""


@dataclass(frozen=True, kw_only=True)
class Options(Machines):
    """What the job's specification says that the config does not.

    Attributes:
        compute: Name of a compute cluster; None: serverless, on machines of `machine_type` or chosen by `gpus`.
        datastore: Name of the datastore that stands for the container of az:// URIs.
        register: Name of the model that the exported one becomes a version of.
    """

    compute: str | None = None
    datastore: str | None = None
    register: str | None = None


def render(config: Config, options: Options) -> str:
    """Returns the command job of a run as YAML; its first line is the command that takes it.

    Raises:
        ConfigError: When the config names what the machines do not have, or holds a secret.
        UsageError: When options contradict each other or a name is none.
    """
    name, data, output = checked(config, options, SERVICE)
    _check_container(data, output)
    # A table or an archive: its folder is mounted, with the images that it names.
    file = data.rpartition("/")[2] if layouts.is_one_file(data) else ""
    mounted = _mounted("data.uri", data.removesuffix(f"/{file}") if file else data, options)
    kept = _mounted("output", output, options)
    settings = as_settings(config, without=[*["data.uri"] * bool(mounted), *["output"] * bool(kept)])
    arguments = [shlex.quote(part) for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    first: list[str] = []
    job: dict[str, Any] = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "type": "command",
        # Not `name`, which a workspace takes once: the same run may be sent again.
        "display_name": name,
        "experiment_name": "finetune",
        "environment": {"image": options.image},
    }
    if mounted:
        first.append(f"ln -sfn ${{{{inputs.data}}}} {DATA_DIR}")
        arguments.append(f"--data {DATA_DIR}" + (f"/{shlex.quote(file)}" if file else ""))
        job["inputs"] = {"data": {"type": "uri_folder", "path": mounted, "mode": "ro_mount"}}
    if kept:
        arguments.append("--output ${{outputs.output}}")
        job["outputs"] = {"output": {"type": "uri_folder", "path": kept, "mode": "rw_mount"}}
    if options.register:
        first.append("export AZURE_ML_OUTPUT_model=${{outputs.model}}")
        job.setdefault("outputs", {})["model"] = {"type": "custom_model", "name": options.register, "mode": "rw_mount"}
    job["command"] = " && ".join([*first, " ".join([PROGRAM, "train", *arguments])])
    job |= _machines(options)
    refuse_secrets(job, shown_to="see the job", next_step="give the datastore or the job's identity the right to it")
    return "# az ml job create --file FILE\n" + yaml.safe_dump(job, sort_keys=False, width=120)


def _check_container(data: str, output: str) -> None:
    containers = {uri.removeprefix("az://").partition("/")[0] for uri in (data, output) if uri.startswith("az://")}
    if len(containers) > 1:
        raise ConfigError(
            f"data.uri and output are in the containers {' and '.join(sorted(containers))}, and a datastore is one of "
            "them.",
            next_step="Write one of them as azureml://datastores/NAME/paths/FOLDER.",
        )


def _mounted(key: str, uri: str, options: Options) -> str | None:
    """Returns what Azure ML mounts for a URI; None for a bucket elsewhere, which the job reaches by itself."""
    if uri.startswith("azureml://datastores/") or (key == "data.uri" and uri.startswith("azureml:")):
        return uri
    refuse_local(key, uri, SERVICE, allowed="az://, or azureml://datastores/NAME/paths/FOLDER")
    if not uri.startswith("az://"):
        return None
    if not options.datastore:
        raise UsageError(
            f"{key} is {uri!r}, and Azure ML reaches a container through a datastore.",
            next_step="Give --datastore NAME; `az ml datastore list` shows which there are.",
        )
    return join(f"azureml://datastores/{options.datastore}/paths", uri.removeprefix("az://").partition("/")[2])


def _machines(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {"resources": {"instance_count": options.nodes}, "limits": {"timeout": options.max_s}}
    if options.compute:
        if options.machine_type or options.gpus or options.spot:
            raise UsageError(
                f"The cluster {options.compute} (--compute) says which machines it has and whether they can be taken "
                "away.",
                next_step="Leave --gpus, --machine-type and --spot out, or leave --compute out: then the job is "
                "serverless.",
            )
        found["compute"] = f"azureml:{options.compute}"
    else:
        found["resources"]["instance_type"] = machine_type(options, MACHINES)
        if options.spot:
            found["queue_settings"] = {"job_tier": "spot"}
    if options.nodes > 1:
        found["distribution"] = {"type": "tensorflow", "worker_count": options.nodes}
    if options.register and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,254}", options.register):
        raise UsageError(
            f"--register is {options.register!r}, but a model's name has letters, digits, '_', '-' and '.'.",
            next_step="Give another --register.",
        )
    return found
