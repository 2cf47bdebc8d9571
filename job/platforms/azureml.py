"""Azure ML: inputs and outputs of a command job by their names, as paths that are mounted or downloaded.

    AZURE_ML_INPUT_<name>, AZURE_ML_OUTPUT_<name>     in either case
    TF_CONFIG                                         several machines (distribution: {type: tensorflow})

The run's folder is the output named `output`. An output named `model` gets the SavedModel alone, so that it can be
registered as a model. Without an output it is ./outputs, which Azure ML uploads as it grows.
Sources: Azure/azureml-examples, cli/jobs; learn.microsoft.com/azure/machine-learning/how-to-read-write-data-v2,
.../how-to-train-distributed-gpu
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from job.platforms.platform import Platform

SIGN = "AZUREML_RUN_ID"
DATA = ("data", "dataset", "training_data", "training", "train", "images")
OUTPUT = ("output", "outputs", "run")
MODEL = ("model",)
_IN, _OUT = "azure_ml_input_", "azure_ml_output_"


def sign(environ: Mapping[str, str]) -> str:
    """Returns the variable by which Azure ML is known, or ""."""
    return SIGN if SIGN in environ else ""


def read(environ: Mapping[str, str], sign: str) -> Platform:
    """Returns what Azure ML says."""
    found_in, reasons, notes = {"platform": sign}, {}, []
    data_uri, variable = _named(environ, _IN, DATA)
    if data_uri and "azureml:" in data_uri.lower():
        reasons["data"] = f"{variable} is {data_uri}: the input has the mode direct."
        data_uri = None
        notes.append("An input is to be mounted or downloaded: mode: ro_mount or mode: download.")
    elif data_uri:
        found_in["data"] = variable
    else:
        reasons["data"] = f"The job has no input of the name {' or '.join(DATA)}."
    model_uri, variable = _named(environ, _OUT, MODEL, or_only=False)
    if model_uri:
        found_in["model"] = variable
    output_uri, variable = _named(environ, _OUT, OUTPUT, besides=MODEL)
    if output_uri:
        found_in["output"] = variable
    else:
        output_uri, found_in["output"] = str(Path("outputs").absolute()), "./outputs"
        notes.append("./outputs starts empty with every job: name an output with a path, and the run is resumed.")
    if tf_config := _several(environ):
        found_in["workers"] = "TF_CONFIG"
        if found_in["output"] == "./outputs":
            output_uri = None
            del found_in["output"]
            reasons["output"] = "The job has several machines and no output that all of them reach."
    return Platform(
        "azureml",
        data_uri=data_uri,
        output_uri=output_uri,
        model_uri=model_uri,
        tf_config=tf_config,
        reasons=reasons,
        notes=tuple(notes),
        found_in=found_in,
    )


def _named(
    environ: Mapping[str, str],
    prefix: str,
    names: tuple[str, ...],
    *,
    besides: tuple[str, ...] = (),
    or_only: bool = True,
) -> tuple[str | None, str]:
    """Returns the value of the first of `names` and its variable; else that of the only one there is."""
    found = {
        variable.lower().removeprefix(prefix): (value, variable)
        for variable, value in environ.items()
        if variable.lower().startswith(prefix) and value
    }
    for name in names:
        if name in found:
            return found[name]
    rest = [value for name, value in found.items() if name not in besides]
    return rest[0] if or_only and len(rest) == 1 else (None, "")


def _several(environ: Mapping[str, str]) -> str | None:
    """Returns TF_CONFIG where it names several machines; what is wrong with it is said where it is used."""
    text = environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text)["cluster"]
        return text if sum(map(len, cluster.values())) > 1 else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
