"""TF_CONFIG for a Kubernetes Indexed Job, made from the index that the cluster gives each pod.

The pods of a Job share one template, so no manifest can hold each one's TF_CONFIG. What they get:

    JOB_COMPLETION_INDEX   this pod's number; set by Kubernetes
    FINETUNE_WORKERS       how many there are
    FINETUNE_JOB           the Job's name, from the pod's label
    FINETUNE_SERVICE       the headless Service that gives the pods their names
    FINETUNE_PORT          on which the workers talk, 2222 by itself

Source: kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication: `$(job)-$(index).$(service)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping

from job.errors import ConfigError

DEFAULT_PORT = 2222
"""Of every TF_CONFIG in TensorFlow's documentation."""

MAX_WORKERS = 1000


def export(environ: MutableMapping[str, str]) -> None:
    """Sets TF_CONFIG where the variables above describe several workers; call before TensorFlow is imported."""
    if (found := tf_config(environ)) is not None:
        environ["TF_CONFIG"] = found


def tf_config(environ: Mapping[str, str]) -> str | None:
    """Returns the TF_CONFIG of this pod; None for one machine, or where TF_CONFIG is there already and wins.

    Raises:
        ConfigError: When a variable is missing or is not what it should be. Names it.
    """
    if environ.get("TF_CONFIG") or not environ.get("FINETUNE_WORKERS"):
        return None
    num_workers = _number(environ, "FINETUNE_WORKERS", 1, MAX_WORKERS)
    if num_workers == 1:
        return None
    index = _number(environ, "JOB_COMPLETION_INDEX", 0, num_workers - 1)
    port = _number({"FINETUNE_PORT": str(DEFAULT_PORT), **environ}, "FINETUNE_PORT", 1, 65535)
    job, service = _name(environ, "FINETUNE_JOB"), _name(environ, "FINETUNE_SERVICE")
    workers = [f"{job}-{number}.{service}:{port}" for number in range(num_workers)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def _number(environ: Mapping[str, str], name: str, lowest: int, highest: int) -> int:
    text = environ.get(name, "")
    # ASCII alone: int() takes the digits of every script.
    if text.isascii() and text.isdecimal() and lowest <= int(text) <= highest:
        return int(text)
    raise ConfigError(
        f"{name} is {text!r}, but with FINETUNE_WORKERS={environ['FINETUNE_WORKERS']!r} it must be a whole number from "
        f"{lowest} to {highest}.",
        next_step="Compare the Job with k8s/components/multi-node: completionMode must be Indexed, and "
        "FINETUNE_WORKERS equal to completions.",
    )


def _name(environ: Mapping[str, str], name: str) -> str:
    if text := environ.get(name, ""):
        return text
    raise ConfigError(
        f"FINETUNE_WORKERS is {environ['FINETUNE_WORKERS']!r}, but {name} is not set, so the other workers have no "
        "name.",
        next_step="Compare the Job's variables with k8s/components/multi-node.",
    )
