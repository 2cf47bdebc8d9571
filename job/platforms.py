"""What the place where the job runs tells it: a laptop, Kubernetes, Vertex AI, SageMaker or Azure ML.

A platform only fills in what the config leaves open. Contracts:
  Vertex AI   cloud.google.com/vertex-ai/docs/training/code-requirements (AIP_* and CLOUD_ML_* variables)
  SageMaker   docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html (/opt/ml)
  Azure ML    inputs and outputs by name in AZURE_ML_INPUT_<name>, AZURE_ML_OUTPUT_<name>, in either case
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SAGEMAKER_ROOT = Path("/opt/ml")

MAX_REASON = 1024
"""Characters that SageMaker shows; Kubernetes cuts after 4,096 bytes."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What was recognised.

    Attributes:
        data_uri: Where it puts the training data; None where it says nothing.
        output_uri: Where it expects results.
    """

    name: Literal["laptop", "kubernetes", "vertex", "sagemaker", "azureml"]
    data_uri: str | None = None
    output_uri: str | None = None


def recognise(environ: Mapping[str, str], *, sagemaker_root: Path = SAGEMAKER_ROOT) -> Platform:
    """Returns the platform that the environment variables and files speak of."""
    if "CLOUD_ML_JOB_ID" in environ or "AIP_MODEL_DIR" in environ:
        model_dir = environ.get("AIP_MODEL_DIR", "").rstrip("/")
        return Platform(
            "vertex",
            data_uri=environ.get("AIP_TRAINING_DATA_URI"),
            output_uri=model_dir.removesuffix("/model") or None,
        )
    if "TRAINING_JOB_NAME" in environ or (sagemaker_root / "input" / "config").is_dir():
        channel = sagemaker_root / "input" / "data" / "training"
        return Platform(
            "sagemaker",
            data_uri=str(channel) if channel.is_dir() else None,
            output_uri=str(sagemaker_root / "model"),
        )
    if "AZUREML_RUN_ID" in environ:
        folded = {name.lower(): value for name, value in environ.items()}
        return Platform(
            "azureml",
            data_uri=folded.get("azure_ml_input_data"),
            output_uri=folded.get("azure_ml_output_output"),
        )
    if "KUBERNETES_SERVICE_HOST" in environ:
        return Platform("kubernetes")
    return Platform("laptop")


def say_why(reason: str, *, root: Path = Path("/")) -> None:
    """Writes why the job ends where a platform would show it to its user, whichever of these places there is.

    Kubernetes makes the file /dev/termination-log in every container (terminationMessagePath); SageMaker reads
    /opt/ml/output/failure. Best effort: the exit code has the last word.
    """
    log, failure = root / "dev" / "termination-log", root / "opt" / "ml" / "output" / "failure"
    for file, is_shown in ((log, log.is_file()), (failure, failure.parent.is_dir())):
        if is_shown:
            with contextlib.suppress(OSError):
                file.write_text(reason[:MAX_REASON], encoding="utf-8")
