"""`finetune platform`: what was recognised, from which variables and files, and what follows for a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from job import cluster
from job.platforms import Platform

_NAMES = {
    "laptop": "this machine by itself",
    "kubernetes": "Kubernetes",
    "vertex": "Vertex AI",
    "sagemaker": "SageMaker",
    "azureml": "Azure ML",
}


def as_json(platform: Platform, environ: Mapping[str, str]) -> str:
    """Returns the fields of `Platform` and the workers, for machines."""
    machines = cluster.of("auto", environ)
    workers = {"num_workers": machines.num_workers, "worker": machines.worker}
    return json.dumps({**dataclasses.asdict(platform), "workers": workers}, indent=2)


def as_text(platform: Platform, environ: Mapping[str, str]) -> str:
    """Returns the same for people: a line a fact, with its source."""
    machines = cluster.of("auto", environ)
    workers = f"{machines.num_workers}; this is worker {machines.worker}" if machines.num_workers > 1 else "1"
    facts = [
        ("platform", _NAMES[platform.name]),
        ("data", platform.data_uri or _open("data", platform)),
        ("output", platform.output_uri or _open("output", platform)),
        ("model", platform.model_uri or "in the output alone"),
        ("logs", platform.logs_uri or "in the output alone"),
        ("workers", workers),
        ("grace", f"{platform.grace_s:g} s from SIGTERM to the end"),
        ("settings", " ".join(platform.overrides) or "none"),
    ]
    sources = {**({"workers": "TF_CONFIG"} if machines.num_workers > 1 else {}), **platform.found_in}
    lines = [f"{name:<10}{said}" + (f"  ({sources[name]})" if name in sources else "") for name, said in facts]
    return "\n".join([*lines, *(f"note      {note}" for note in platform.notes)])


def _open(what: str, platform: Platform) -> str:
    return " ".join(filter(None, [f"to be given: --{what} URI.", platform.reasons.get(what)]))
