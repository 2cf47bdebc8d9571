"""`finetune platform` on each platform that is recognised: every fact with its source, for people and for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TWO = {"cluster": {"chief": ["a:2222"], "worker": ["b:2222"]}, "task": {"type": "worker", "index": 0}}
WORKERS = {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}

PLATFORMS: dict[str, tuple[dict[str, str], str]] = {
    "laptop": (
        {},
        """\
platform  this machine by itself
data      to be given: --data URI.
output    to be given: --output URI.
model     in the output alone
logs      in the output alone
workers   1
grace     25 s from SIGTERM to the end
settings  none
""",
    ),
    "kubernetes": (
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "TF_CONFIG": json.dumps(WORKERS)},
        """\
platform  Kubernetes  (KUBERNETES_SERVICE_HOST)
data      to be given: --data URI.
output    to be given: --output URI.
model     in the output alone
logs      in the output alone
workers   2; this is worker 1  (TF_CONFIG)
grace     25 s from SIGTERM to the end
settings  none
""",
    ),
    "vertex": (
        {
            "CLOUD_ML_JOB_ID": "7",
            "AIP_MODEL_DIR": "gs://b/runs/1/model/",
            "AIP_CHECKPOINT_DIR": "gs://b/runs/1/checkpoints/",
            "AIP_TENSORBOARD_LOG_DIR": "gs://b/runs/1/logs/",
            "TF_CONFIG": json.dumps({**TWO, "environment": "cloud"}),
        },
        """\
platform  Vertex AI  (CLOUD_ML_JOB_ID)
data      to be given: --data URI. The job has no managed dataset.
output    gs://b/runs/1  (AIP_MODEL_DIR)
model     gs://b/runs/1/model  (AIP_MODEL_DIR)
logs      gs://b/runs/1/logs  (AIP_TENSORBOARD_LOG_DIR)
workers   2; this is worker 1  (TF_CONFIG)
grace     25 s from SIGTERM to the end
settings  none
""",
    ),
    "sagemaker": (
        {
            "TRAINING_JOB_NAME": "flowers-1",
            "SM_HPS": '{"train.seed": "7", "train.preset": "fast"}',
            "SM_INPUT_DATA_CONFIG": '{"training": {"TrainingInputMode": "File"}, "weights": {}}',
        },
        """\
platform  SageMaker  (TRAINING_JOB_NAME)
data      /opt/ml/input/data/training  (SM_INPUT_DATA_CONFIG)
output    /opt/ml/output/data  (/opt/ml/output/data)
model     /opt/ml/model/1  (/opt/ml/model)
logs      /opt/ml/output/tensorboard  (/opt/ml/output/tensorboard)
workers   1
grace     115 s from SIGTERM to the end  (SageMaker's 120 s)
settings  train.seed=7 train.preset=fast  (SM_HPS)
note      Channels left alone: weights (at /opt/ml/input/data/weights).
note      There is no CheckpointConfig: the run's folder becomes output.tar.gz when the job ends, and a job that is \
interrupted starts from the beginning.
""",
    ),
    "azureml": (
        {
            "AZUREML_RUN_ID": "r",
            "AZURE_ML_INPUT_data": "azureml://datastores/d/paths/photos",
            "AZURE_ML_OUTPUT_output": "/mnt/out",
            "AZURE_ML_OUTPUT_model": "/mnt/model",
        },
        """\
platform  Azure ML  (AZUREML_RUN_ID)
data      to be given: --data URI. AZURE_ML_INPUT_data is azureml://datastores/d/paths/photos: the input has the mode \
direct.
output    /mnt/out  (AZURE_ML_OUTPUT_output)
model     /mnt/model  (AZURE_ML_OUTPUT_model)
logs      in the output alone
workers   1
grace     25 s from SIGTERM to the end
settings  none
note      An input is to be mounted or downloaded: mode: ro_mount or mode: download.
""",
    ),
}


def platform(environ: dict[str, str], *arguments: str) -> str:
    # Nothing of this machine, which may itself be one of them.
    program = [sys.executable, "-m", "job", "platform", *arguments]
    done = subprocess.run(
        program, env={"PATH": "/usr/bin:/bin", **environ}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PLATFORMS)
def test_people_read_every_fact_with_its_source(name: str) -> None:
    environ, text = PLATFORMS[name]
    assert platform(environ) == text


@pytest.mark.parametrize("name", PLATFORMS)
def test_machines_read_the_same_facts(name: str) -> None:
    environ, text = PLATFORMS[name]
    found: dict[str, Any] = json.loads(platform(environ, "--json"))
    assert found["name"] == name
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    for fact in ("data", "output", "model", "logs"):
        uri = found[f"{fact}_uri"]
        assert lines[fact].startswith(f"{uri} " if uri else ("to be given", "in the output alone"))
    assert lines["workers"].startswith(str(found["workers"]["num_workers"]))
    assert lines["grace"].startswith(f"{found['grace_s']:g} s")
    assert [f"note      {note}" for note in found["notes"]] == [
        line for line in text.splitlines() if line.startswith("note")
    ]


def test_a_secret_among_the_settings_is_masked() -> None:
    weights = "https://h/w.h5?X-Amz-Signature=0123456789abcdef"
    environ = {"TRAINING_JOB_NAME": "flowers-1", "SM_HPS": json.dumps({"model.weights": weights})}
    for arguments in ((), ("--json",)):
        said = platform(environ, *arguments)
        assert "0123456789abcdef" not in said
        assert "https://h/w.h5?***" in said
