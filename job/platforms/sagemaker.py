"""SageMaker training: everything is below /opt/ml, and the container is started as `IMAGE train`.

    input/config/hyperparameters.json    strings; each becomes `--set name=value`
    input/config/inputdataconfig.json    the channels; a channel's files are in input/data/<channel>
    input/config/resourceconfig.json     current_host, hosts
    checkpoints/                         there with a CheckpointConfig: copied to S3 as it grows, and back at a restart
    model/                               packed as model.tar.gz when the job ends, also when it is stopped
    output/data/                         packed as output.tar.gz
    output/tensorboard/                  copied to S3 as it grows (TensorBoardOutputConfig)
    output/failure                       why the job failed

SageMaker writes the files; the SM_* variables come from a toolkit that other images have, and are read where a file is
not there. A job is stopped by SIGTERM and killed 120 s later.
Sources: docs.aws.amazon.com/sagemaker/latest/dg, your-algorithms-training-algo-running-container, model-checkpoints,
model-train-storage; aws/sagemaker-training-toolkit, ENVIRONMENT_VARIABLES.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job.errors import ConfigError
from job.platforms.platform import Platform

SAGEMAKER_ROOT = Path("/opt/ml")
GRACE_S = 115.0
"""Of the 120 s between SIGTERM and the kill."""

PORT = 2222
"""On which the machines of a cluster talk to each other; TensorFlow's custom."""

DATA = ("training", "train", "data")
"""Channels that hold the data where there are others too."""

SPLITS = frozenset({"train", "training", "validation", "valid", "val", "test", "testing"})
MODEL_VERSION = "1"
"""TensorFlow Serving looks for a numbered folder in model.tar.gz."""


def sign(environ: Mapping[str, str], root: Path) -> str:
    """Returns the variable or folder by which SageMaker is known, or ""."""
    if (folder := root / "input" / "config").is_dir():
        return str(folder)
    return next((name for name in ("TRAINING_JOB_NAME", "SM_MODEL_DIR", "SM_HPS") if name in environ), "")


def read(environ: Mapping[str, str], root: Path, sign: str) -> Platform:
    """Returns what SageMaker says.

    Raises:
        ConfigError: When one of its files is not what it writes.
    """
    found_in, reasons = {"platform": sign}, dict[str, str]()
    values, source = _json("hyperparameters", "SM_HPS", environ, root)
    overrides = tuple(_override(name, value) for name, value in values.items() if not _is_sagemakers(name))
    if overrides:
        found_in["settings"] = source
    hosts, current, source = _hosts(environ, root)
    if len(hosts) > 1:
        found_in["workers"] = source
    data_uri, said, notes = _data(environ, root, num_hosts=len(hosts))
    (found_in if data_uri else reasons)["data"] = said
    model = root / "model" / MODEL_VERSION
    logs = root / "output" / "tensorboard"
    found_in |= {"model": str(model.parent), "logs": str(logs), "grace": "SageMaker's 120 s"}
    output = root / "checkpoints"
    if len(hosts) > 1:
        reasons["output"] = (
            f"The job has {len(hosts)} hosts, which have no folder in common: set the hyperparameter output to s3://…"
        )
    elif not output.is_dir():
        output = root / "output" / "data"
        notes.append(
            "There is no CheckpointConfig: the run's folder becomes output.tar.gz when the job ends, and a job that is "
            "interrupted starts from the beginning."
        )
    if "output" not in reasons:
        found_in["output"] = str(output)
    return Platform(
        "sagemaker",
        data_uri=data_uri,
        output_uri=found_in.get("output"),
        model_uri=str(model),
        logs_uri=str(logs),
        grace_s=GRACE_S,
        overrides=overrides,
        tf_config=_tf_config(hosts, current) if len(hosts) > 1 else None,
        reasons=reasons,
        notes=tuple(notes),
        found_in=found_in,
    )


def _is_sagemakers(name: str) -> bool:
    """Whether a hyperparameter is SageMaker's own: of its Python SDK, or of a tuning job."""
    return name.startswith(("sagemaker_", "_"))


def _override(name: str, value: Any) -> str:
    # The Python SDK writes some values as JSON, which is YAML as well, as `--set` takes it.
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def _json(name: str, variable: str, environ: Mapping[str, str], root: Path) -> tuple[dict[str, Any], str]:
    """Returns the content of a file of input/config, or of the variable that stands for it, and which of the two."""
    path = root / "input" / "config" / f"{name}.json"
    if path.is_file():
        return _object(path.read_text(encoding="utf-8"), str(path)), str(path)
    if environ.get(variable):
        return _object(environ[variable], variable), variable
    return {}, ""


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__} where an object is expected")
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{source} is not the JSON that SageMaker writes: {error}.", next_step="Leave it to SageMaker."
        ) from error
    return found


def _hosts(environ: Mapping[str, str], root: Path) -> tuple[list[str], str, str]:
    """Returns the names of all hosts, that of this one, and what says so."""
    found, source = _json("resourceconfig", "SM_RESOURCE_CONFIG", environ, root)
    if not found and environ.get("SM_HOSTS"):
        source = "SM_HOSTS"
        found = _object(f'{{"hosts": {environ[source]}}}', source) | {"current_host": environ.get("SM_CURRENT_HOST")}
    hosts, current = found.get("hosts", []), found.get("current_host")
    if len(hosts) > 1 and current not in hosts:
        raise ConfigError(
            f"{source} names the hosts {', '.join(map(str, hosts))}, and this one is {current!r}.",
            next_step="Leave it to SageMaker: current_host is one of hosts.",
        )
    return sorted(hosts), str(current), source


def _tf_config(hosts: list[str], current: str) -> str:
    cluster = {"worker": [f"{host}:{PORT}" for host in hosts]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": hosts.index(current)}})


def _data(environ: Mapping[str, str], root: Path, *, num_hosts: int) -> tuple[str | None, str, list[str]]:
    """Returns the folder of the data and what names it; or None and why there is none."""
    channels, source = _json("inputdataconfig", "SM_INPUT_DATA_CONFIG", environ, root)
    folder = root / "input" / "data"
    if not channels and folder.is_dir():
        source = str(folder)
        channels = {path.name: {} for path in sorted(folder.iterdir()) if path.is_dir()}
    if not channels:
        return None, "The job has no channel (InputDataConfig).", []
    splits = [name for name in channels if name.lower() in SPLITS]
    if len(channels) == 1:
        data, used = folder / next(iter(channels)), list(channels)
    elif len(splits) == len(channels):
        data, used = folder, splits
    elif len(named := [name for name in channels if name.lower() in DATA]) == 1 and len(splits) <= 1:
        data, used = folder / named[0], named
    else:
        return (
            None,
            (
                f"The channels are {', '.join(channels)}; the data is expected in one channel, named "
                f"{' or '.join(DATA)} where there are others, or in channels named after the splits alone."
            ),
            [],
        )
    for name in used:
        config = channels[name] if isinstance(channels[name], dict) else {}
        if config.get("TrainingInputMode") == "Pipe":
            return None, f"The channel {name} has the input mode Pipe; files are needed: File or FastFile.", []
        if num_hosts > 1 and config.get("S3DistributionType") == "ShardedByS3Key":
            return (
                None,
                (f"The channel {name} is ShardedByS3Key; every host needs all of the data: FullyReplicated."),
                [],
            )
    others = [f"{name} (at {folder / name})" for name in channels if name not in used]
    notes = [f"Channels left alone: {', '.join(others)}."] if others else []
    return str(data), source, notes
