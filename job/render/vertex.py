"""Vertex AI: a CustomJobSpec, as `gcloud ai custom-jobs create --config` takes it.

The run's folder is baseOutputDirectory, from which Vertex AI makes the AIP_* variables that
`job/platforms/vertex.py` reads; everything else of the config is in the arguments.
Sources: cloud.google.com/vertex-ai/docs/reference/rest/v1/CustomJobSpec, .../docs/training/configure-compute,
.../docs/training/use-spot-vms; cloud.google.com/sdk/gcloud/reference/ai/custom-jobs/create
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from job.config import Config
from job.errors import ConfigError, UsageError
from job.platforms import Platform
from job.render.managed import Machines, checked, machine_type, refuse_local
from job.render.submission import as_settings, refuse_secrets

SERVICE = "Vertex AI"
GPU = "NVIDIA_L4"
MACHINES = {0: "n2-standard-4", 1: "g2-standard-4", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"}
"""GPUs → the smallest machine of the family that has so many L4. Source: Compute Engine, "G2 machine series"."""


@dataclass(frozen=True, kw_only=True)
class Options(Machines):
    """What the job's specification says that the config does not.

    Attributes:
        accelerator: Kind of GPU, with `machine_type` and `gpus`; None where the machine is chosen by `gpus`.
        disk_gb: Of each machine's boot disk, gigabytes.
        service_account: E-mail address of the service account to act as.
        tensorboard: projects/P/locations/R/tensorboards/ID, which shows the curves.
    """

    accelerator: str | None = None
    disk_gb: int = 100
    service_account: str | None = None
    tensorboard: str | None = None


def render(config: Config, options: Options) -> str:
    """Returns the CustomJobSpec of a run as YAML; its first line is the command that takes it.

    Raises:
        ConfigError: When the config names what the machines do not have, or holds a secret.
        UsageError: When options contradict each other or a name is none.
    """
    name, data, output = checked(config, options, SERVICE)
    data, output = (Platform("vertex").without_mount(uri) for uri in (data, output))
    refuse_local("data.uri", data, SERVICE, allowed="gs://")
    refuse_local("output", output, SERVICE, allowed="gs://")
    if not output.startswith("gs://"):
        raise ConfigError(
            f"output is {output!r}, and the folder of a job (baseOutputDirectory) is in Cloud Storage.",
            next_step="Set output to gs://BUCKET/FOLDER.",
        )
    if options.tensorboard and not options.service_account:
        raise UsageError(
            "--tensorboard needs a service account that may write to it, and there is none.",
            next_step="Give --service-account EMAIL.",
        )
    # Vertex AI itself names the output, so that each trial of a tuning job has its own.
    settings = {"data.uri": data, **as_settings(config, without=("data.uri", "output"))}
    arguments = ["train", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]
    counts = [1, options.nodes - 1] if options.nodes > 1 else [1]
    spec: dict[str, Any] = {
        "workerPoolSpecs": [_pool(options, count, arguments) for count in counts],
        "scheduling": _scheduling(options),
        "baseOutputDirectory": {"outputUriPrefix": output},
    }
    if options.service_account:
        spec["serviceAccount"] = options.service_account
    if options.tensorboard:
        spec["tensorboard"] = options.tensorboard
    refuse_secrets(spec, shown_to="see the job", next_step="give the job's service account the right to the bucket")
    # A CustomJobSpec has no name: it is the command's.
    command = f"# gcloud ai custom-jobs create --region REGION --display-name {name} --config FILE\n"
    return command + yaml.safe_dump(spec, sort_keys=False, width=120)


def _pool(options: Options, count: int, arguments: list[str]) -> dict[str, Any]:
    return {
        "machineSpec": _machine(options),
        "replicaCount": count,
        "diskSpec": {"bootDiskSizeGb": options.disk_gb},
        "containerSpec": {"imageUri": options.image, "args": list(arguments)},
    }


def _machine(options: Options) -> dict[str, Any]:
    """Returns the machine's type and its GPUs, which are said by themselves even where the type implies them."""
    if options.machine_type is None:
        if options.accelerator and not (options.accelerator == GPU and options.gpus):
            raise UsageError(
                f"--accelerator is {options.accelerator} and --gpus {options.gpus}; the machines that are chosen by "
                f"--gpus have {GPU}.",
                next_step="Give --machine-type and --gpus as well, or leave --accelerator out.",
            )
        kind, accelerator = machine_type(options, MACHINES), GPU
    elif bool(options.gpus) != bool(options.accelerator):
        raise UsageError(
            f"--machine-type is {options.machine_type}, --gpus {options.gpus} and --accelerator "
            f"{options.accelerator or 'not given'}: a machine has both a number and a kind of GPUs, or neither.",
            next_step="Give --gpus N and --accelerator KIND (NVIDIA_L4, NVIDIA_TESLA_A100, ...), or leave both out.",
        )
    else:
        kind, accelerator = options.machine_type, options.accelerator or ""
    gpus = {"acceleratorType": accelerator, "acceleratorCount": options.gpus} if options.gpus else {}
    return {"machineType": kind, **gpus}


def _scheduling(options: Options) -> dict[str, Any]:
    scheduling: dict[str, Any] = {"timeout": f"{options.max_s}s"}
    if options.spot:
        scheduling["strategy"] = "SPOT"
    if options.nodes > 1:
        # Machines that train together begin together: one that comes back alone would wait for the others.
        scheduling["restartJobOnWorkerRestart"] = True
    return scheduling
