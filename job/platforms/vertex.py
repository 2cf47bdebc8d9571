"""Vertex AI custom training: AIP_* variables, and a managed dataset as three wildcards.

    AIP_MODEL_DIR, AIP_CHECKPOINT_DIR, AIP_TENSORBOARD_LOG_DIR
                         model/, checkpoints/, logs/ below baseOutputDirectory (below a trial's number when tuning)
    AIP_DATA_FORMAT      jsonl, csv or bigquery: of a managed dataset, which only a training pipeline has
    AIP_TRAINING_DATA_URI, AIP_VALIDATION_DATA_URI, AIP_TEST_DATA_URI
                         gs://bucket/folder/training-*, and so on
    TF_CONFIG, CLUSTER_SPEC
                         the same machines twice: chief, worker, ps; and workerpool0 to 3

The run's folder is the base output directory, so its `checkpoints/` and `logs/` are where Vertex AI wants them; the
model alone is copied to `model/`, which a pipeline uploads to the Model Registry.
Sources: cloud.google.com/vertex-ai/docs/training/code-requirements, .../using-managed-datasets,
.../distributed-training; googleapis/python-aiplatform, training_utils/environment_variables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from job.errors import ConfigError
from job.platforms.platform import Platform

MODEL, CHECKPOINTS, LOGS = "AIP_MODEL_DIR", "AIP_CHECKPOINT_DIR", "AIP_TENSORBOARD_LOG_DIR"
DATA = ("AIP_TRAINING_DATA_URI", "AIP_VALIDATION_DATA_URI", "AIP_TEST_DATA_URI")
POOLS = {"workerpool0": "chief", "workerpool1": "worker"}
"""CLUSTER_SPEC's name of a pool → TF_CONFIG's; pools 2 and 3 are parameter servers and evaluators."""

_SHARDS = re.compile(r"(?P<folder>gs://.+)/(training|validation|test)-\*(\.jsonl)?$")


def sign(environ: Mapping[str, str]) -> str:
    """Returns the variable by which Vertex AI is known, or ""."""
    return next((name for name in ("CLOUD_ML_JOB_ID", MODEL, CHECKPOINTS) if name in environ), "")


def read(environ: Mapping[str, str], sign: str) -> Platform:
    """Returns what Vertex AI says.

    Raises:
        ConfigError: When CLUSTER_SPEC or TF_CONFIG has machines that this job has no use for.
    """
    found_in, reasons = {"platform": sign}, {}
    data_uri, why = _data(environ)
    if data_uri:
        found_in["data"] = ", ".join(name for name in DATA if environ.get(name))
    else:
        reasons["data"] = why
    output_uri, variable = _base(environ)
    if output_uri:
        found_in["output"] = variable
    else:
        reasons["output"] = "The job has no baseOutputDirectory."
    tf_config, source = _machines(environ)
    if tf_config:
        found_in["workers"] = source
    model_uri, logs_uri = (environ.get(name, "").rstrip("/") or None for name in (MODEL, LOGS))
    if model_uri:
        found_in["model"] = MODEL
    if logs_uri:
        found_in["logs"] = LOGS
    return Platform(
        "vertex",
        data_uri=data_uri,
        data_layout="jsonl" if data_uri else "auto",
        output_uri=output_uri,
        model_uri=model_uri,
        logs_uri=logs_uri,
        tf_config=tf_config,
        reasons=reasons,
        found_in=found_in,
    )


def _base(environ: Mapping[str, str]) -> tuple[str | None, str]:
    for variable, name in ((MODEL, "model"), (CHECKPOINTS, "checkpoints")):
        base, slash, last = environ.get(variable, "").rstrip("/").rpartition("/")
        if slash and last == name:
            return base, variable
    return None, ""


def _data(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Returns the folder of a managed dataset's shards, or None and why."""
    uris = {name: environ[name] for name in DATA if environ.get(name)}
    kind = environ.get("AIP_DATA_FORMAT", "jsonl")
    if not uris:
        return None, "The job has no managed dataset."
    if kind != "jsonl":
        return None, f"The managed dataset comes as {kind} (AIP_DATA_FORMAT); images come as jsonl."
    folders = {found["folder"] for uri in uris.values() if (found := _SHARDS.match(uri))}
    if len(folders) == 1 and all(map(_SHARDS.match, uris.values())):
        return folders.pop(), ""
    said = ", ".join(f"{name}={uri}" for name, uri in uris.items())
    return None, (
        "The managed dataset is expected as training-*, validation-* and test-* in one folder of a bucket; received "
        f"{said}."
    )


def _machines(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Returns TF_CONFIG of several machines, from itself or from CLUSTER_SPEC, and which of them."""
    for variable in ("TF_CONFIG", "CLUSTER_SPEC"):
        if text := environ.get(variable):
            config = _parsed(variable, text)
            _refuse_others(variable, config)
            several = sum(map(len, config["cluster"].values())) > 1
            return (json.dumps(config) if several else None), variable
    return None, ""


def _parsed(variable: str, text: str) -> dict[str, Any]:
    """Returns cluster and task alone: the rest is Vertex AI's own (`job`, `environment`)."""
    try:
        spec = json.loads(text)
        cluster = {POOLS.get(pool, pool): list(hosts) for pool, hosts in spec.get("cluster", {}).items() if hosts}
        task = spec.get("task") or {"type": "chief", "index": 0}
        kind, index = str(task["type"]), int(task.get("index", 0))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{variable} is not the JSON that Vertex AI writes: {text!r}.",
            next_step=f"Leave {variable} to Vertex AI: it is set in every container of a job.",
        ) from error
    return {"cluster": cluster, "task": {"type": POOLS.get(kind, kind), "index": index}}


def _refuse_others(variable: str, config: dict[str, Any]) -> None:
    known = set(POOLS.values())
    if others := sorted(({config["task"]["type"]} | set(config["cluster"])) - known):
        raise ConfigError(
            f"{variable} names machines of the kind {', '.join(others)}; this job trains on all of them alike, as "
            "chief and workers.",
            next_step="Put the machines into workerPoolSpecs[0] (one) and workerPoolSpecs[1] (the others), and leave "
            "[2] and [3] away.",
        )
