"""SageMaker: CreateTrainingJob, as `aws sagemaker create-training-job --cli-input-json` takes it.

What `job/platforms/sagemaker.py` reads on the other side: hyperparameters are the settings, the channel `training` is
the data. The run's folder is /opt/ml/checkpoints, which SageMaker copies to the output in S3 and back; several machines
have no folder in common, and write to S3 themselves.
Sources: docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html,
.../latest/dg/model-train-storage.html, .../latest/dg/model-managed-spot-training.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from job.config import Config
from job.dataset import layouts
from job.errors import ConfigError, UsageError
from job.platforms.sagemaker import DATA, SAGEMAKER_ROOT
from job.render.managed import Machines, checked, machine_type, refuse_local
from job.render.submission import as_settings, refuse_secrets
from job.storage import split

SERVICE = "SageMaker"
MACHINES = {0: "ml.m5.xlarge", 1: "ml.g5.xlarge", 4: "ml.g5.12xlarge", 8: "ml.g5.48xlarge"}
"""GPUs → the smallest machine of the family that has so many A10G. Source: EC2, "Accelerated computing instances"."""

MAX_HYPERPARAMETER = 2500
"""Characters. Source: the service's model, HyperParameterValue."""

_ECR = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/")


@dataclass(frozen=True, kw_only=True)
class Options(Machines):
    """What the job's specification says that the config does not.

    Attributes:
        role: ARN of the role to act as.
        artifacts: s3:// folder for model.tar.gz, output.tar.gz and TensorBoard; None: beside the run's folder.
        disk_gb: Of each machine's volume, gigabytes.
        max_wait_hours: Waiting for spot machines and training; None: twice max_hours.
    """

    role: str
    artifacts: str | None = None
    disk_gb: int = 100
    max_wait_hours: float | None = None


def render(config: Config, options: Options) -> str:
    """Returns the request of a run as JSON.

    Raises:
        ConfigError: When the config names what the machines do not have, or holds a secret.
        UsageError: When options contradict each other or a name is none.
    """
    name, data, output = checked(config, options, SERVICE)
    refuse_local("data.uri", data, SERVICE, allowed="s3://")
    refuse_local("output", output, SERVICE, allowed="s3://")
    artifacts = _artifacts(output, options)
    # A table or an archive is no folder: the job reads it, and what it names, by itself.
    is_channel = data.startswith("s3://") and not layouts.is_one_file(data)
    is_kept = output.startswith("s3://") and options.nodes == 1
    settings = as_settings(config, without=[*["data.uri"] * is_channel, *["output"] * is_kept])
    _check_length(settings)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        # The image's own entry point, called as SageMaker does: with the argument `train`.
        "AlgorithmSpecification": {"TrainingImage": options.image, "TrainingInputMode": "File"},
        "RoleArn": _role(options),
        "HyperParameters": settings,
        "OutputDataConfig": {"S3OutputPath": artifacts},
        "TensorBoardOutputConfig": {
            "LocalPath": str(SAGEMAKER_ROOT / "output" / "tensorboard"),
            "S3OutputPath": artifacts,
        },
        "ResourceConfig": {
            "InstanceType": machine_type(options, MACHINES),
            "InstanceCount": options.nodes,
            "VolumeSizeInGB": options.disk_gb,
        },
        "StoppingCondition": _stopping(options),
        "EnableManagedSpotTraining": options.spot,
        # Of the image, which SageMaker takes from the region of the job; what reads s3:// wants to know it.
        "Environment": {"AWS_REGION": _region(options)},
    }
    if is_channel:
        request["InputDataConfig"] = [_channel(data)]
    if is_kept:
        local = str(SAGEMAKER_ROOT / "checkpoints")
        request["CheckpointConfig"] = {"S3Uri": output.rstrip("/"), "LocalPath": local}
    refuse_secrets(request, shown_to="see the job", next_step="give the job's role the right to the bucket")
    return json.dumps(request, indent=2) + "\n"


def _artifacts(output: str, options: Options) -> str:
    """Returns the folder beside the run's: inside of it, they would be copied to every machine that starts anew."""
    if options.artifacts:
        found = options.artifacts.rstrip("/")
        if not found.startswith("s3://") or f"{found}/".startswith(f"{output.rstrip('/')}/"):
            raise UsageError(
                f"--artifacts is {options.artifacts!r}, but must be an s3:// folder outside of the output {output}.",
                next_step="Give another --artifacts.",
            )
        return found
    if not output.startswith("s3://") or "/" not in output.removeprefix("s3://").rstrip("/"):
        raise UsageError(
            f"SageMaker puts model.tar.gz beside the run's folder in S3, and output is {output!r}.",
            next_step="Give --artifacts s3://BUCKET/FOLDER.",
        )
    return split(output)[0]


def _role(options: Options) -> str:
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", options.role):
        raise UsageError(
            f"--role is {options.role!r}, but must be the ARN of a role.",
            next_step="Write --role arn:aws:iam::ACCOUNT:role/NAME.",
        )
    return options.role


def _region(options: Options) -> str:
    found = _ECR.match(options.image)
    if found is None:
        raise UsageError(
            f"--image is {options.image!r}, but SageMaker takes images from Amazon ECR.",
            next_step="Push it there: ACCOUNT.dkr.ecr.REGION.amazonaws.com/finetune-job:0.1.0-sagemaker.",
        )
    return found["region"]


def _check_length(settings: dict[str, str]) -> None:
    for key, value in settings.items():
        if len(value) > MAX_HYPERPARAMETER:
            raise ConfigError(
                f"{key} has {len(value)} characters; a hyperparameter has at most {MAX_HYPERPARAMETER}.",
                next_step=f"Shorten {key}.",
            )


def _channel(data: str) -> dict[str, Any]:
    return {
        "ChannelName": DATA[0],
        "InputMode": "File",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                # A prefix, not a folder: without the slash it is that of photos-old, too.
                "S3Uri": data.rstrip("/") + "/",
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }


def _stopping(options: Options) -> dict[str, int]:
    if not options.spot:
        if options.max_wait_hours is not None:
            raise UsageError(
                "--max-wait-hours is about spot machines, and the job asks for none.",
                next_step="Give --spot, or leave it out.",
            )
        return {"MaxRuntimeInSeconds": options.max_s}
    wait_s = 2 * options.max_s if options.max_wait_hours is None else round(options.max_wait_hours * 3600)
    if wait_s < options.max_s:
        raise UsageError(
            f"--max-wait-hours is {options.max_wait_hours:g}, less than --max-hours {options.max_hours:g}, which it "
            "contains.",
            next_step="Give more.",
        )
    return {"MaxRuntimeInSeconds": options.max_s, "MaxWaitTimeInSeconds": wait_s}
