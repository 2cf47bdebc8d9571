"""What the place where the job runs tells it: a laptop, Kubernetes, Vertex AI, SageMaker or Azure ML.

One file a platform, each with the contract it honours. A platform only fills in what the config leaves open; what it
wants besides the run's folder (the model alone in one place, the logs in another) is copied there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from job.platforms import azureml, sagemaker, vertex
from job.platforms.platform import DEFAULT_GRACE_S, Name, Platform
from job.platforms.reason import MAX_REASON, say_why
from job.platforms.sagemaker import SAGEMAKER_ROOT

__all__ = ["DEFAULT_GRACE_S", "MAX_REASON", "Name", "Platform", "recognise", "say_why"]

KUBERNETES = "KUBERNETES_SERVICE_HOST"


def recognise(environ: Mapping[str, str], *, sagemaker_root: Path | None = None) -> Platform:
    """Returns the platform that the environment variables and files speak of.

    The managed services come first: some of them run their containers on Kubernetes.

    Args:
        sagemaker_root: None is /opt/ml.

    Raises:
        ConfigError: When what a platform says contradicts itself or cannot be read.
    """
    root = sagemaker_root or SAGEMAKER_ROOT
    if sign := vertex.sign(environ):
        return vertex.read(environ, sign)
    if sign := sagemaker.sign(environ, root):
        return sagemaker.read(environ, root, sign)
    if sign := azureml.sign(environ):
        return azureml.read(environ, sign)
    if KUBERNETES in environ:
        return Platform("kubernetes", found_in={"platform": KUBERNETES})
    return Platform("laptop")
