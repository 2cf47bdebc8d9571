"""SageMaker's contract: files below /opt/ml, and SM_* variables where a file is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job import cluster
from job import config as configs
from job.cluster import Cluster
from job.errors import ConfigError, UsageError
from job.platforms import Platform, recognise
from job.workspace import filled_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns what SageMaker makes for a job with one channel and a CheckpointConfig."""
    for folder in ("input/config", "input/data/training", "model", "checkpoints", "output/data"):
        (tmp_path / folder).mkdir(parents=True)
    _write(tmp_path, "hyperparameters", {})
    _write(tmp_path, "inputdataconfig", {"training": {"TrainingInputMode": "File"}})
    _write(tmp_path, "resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"]})
    return tmp_path


def _write(root: Path, name: str, content: Any) -> None:
    (root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


def _channels(root: Path, **channels: dict[str, str]) -> Platform:
    _write(root, "inputdataconfig", channels)
    return recognise({}, sagemaker_root=root)


def test_the_run_goes_where_it_survives_and_the_model_where_it_is_packed(root: Path) -> None:
    found = recognise({}, sagemaker_root=root)
    assert (found.name, found.grace_s) == ("sagemaker", 115.0)
    assert found.data_uri == str(root / "input" / "data" / "training")
    assert found.output_uri == str(root / "checkpoints")
    assert found.model_uri == str(root / "model" / "1")
    assert found.logs_uri == str(root / "output" / "tensorboard")
    assert found.tf_config is None
    assert found.notes == ()


def test_without_a_checkpoint_config_the_run_is_packed_as_output_and_that_is_said(root: Path) -> None:
    (root / "checkpoints").rmdir()
    found = recognise({}, sagemaker_root=root)
    assert found.output_uri == str(root / "output" / "data")
    assert "no CheckpointConfig" in found.notes[0]


def test_hyperparameters_become_settings(root: Path) -> None:
    values = {
        "train.finetune.learning_rate": "0.0001",
        "model.backbone": '"resnet50"',  # as the Python SDK writes it
        "data.image_px": "160",
        "train.deterministic": "true",
        "telemetry.profile_steps": "[3, 7]",
        "sagemaker_region": '"eu-west-1"',
        "_tuning_objective_metric": "accuracy",
    }
    _write(root, "hyperparameters", values)
    config = configs.load(overrides=recognise({}, sagemaker_root=root).overrides)
    assert config.train.finetune.learning_rate == 1e-4
    assert (config.model.backbone, config.data.image_px) == ("resnet50", 160)
    assert (config.train.deterministic, config.telemetry.profile_steps) == (True, (3, 7))


def test_a_misspelt_hyperparameter_is_refused(root: Path) -> None:
    _write(root, "hyperparameters", {"train.sed": "7"})
    with pytest.raises(ConfigError, match="Did you mean 'seed'?"):
        configs.load(overrides=recognise({}, sagemaker_root=root).overrides)


def test_files_win_over_the_toolkits_variables(root: Path) -> None:
    _write(root, "hyperparameters", {"train.seed": "1"})
    environ = {"SM_HPS": '{"train.seed": "2"}', "SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2"}
    found = recognise(environ, sagemaker_root=root)
    assert found.overrides == ("train.seed=1",)
    assert found.tf_config is None


def test_the_toolkits_variables_stand_in_for_files(tmp_path: Path) -> None:
    environ = {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_HPS": '{"train.seed": 2, "train.deterministic": true}',
        "SM_HOSTS": '["algo-1", "algo-2"]',
        "SM_CURRENT_HOST": "algo-2",
        "SM_INPUT_DATA_CONFIG": '{"training": {"TrainingInputMode": "File"}}',
    }
    found = recognise(environ, sagemaker_root=tmp_path)
    assert found.name == "sagemaker"
    assert configs.load(overrides=found.overrides).train.seed == 2
    assert found.tf_config is not None
    assert json.loads(found.tf_config)["task"]["index"] == 1
    assert found.data_uri == str(tmp_path / "input" / "data" / "training")
    assert found.found_in["workers"] == "SM_HOSTS"


@pytest.mark.parametrize(("host", "worker"), [("algo-1", 0), ("algo-10", 1), ("algo-2", 2)])
def test_every_host_counts_the_hosts_alike(root: Path, host: str, worker: int) -> None:
    hosts = ["algo-1", "algo-2", "algo-10"]
    _write(root, "resourceconfig", {"current_host": host, "hosts": hosts, "network_interface_name": "eth0"})
    found = recognise({}, sagemaker_root=root)
    assert found.tf_config is not None
    addresses = json.loads(found.tf_config)["cluster"]["worker"]
    assert sorted(addresses) == sorted(f"{name}:2222" for name in hosts)
    assert addresses[json.loads(found.tf_config)["task"]["index"]] == f"{host}:2222"
    assert cluster.of("auto", {"TF_CONFIG": found.tf_config}) == Cluster(3, worker)


def test_several_hosts_need_an_output_that_all_of_them_reach(root: Path) -> None:
    _write(root, "resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    found = recognise({}, sagemaker_root=root)
    with pytest.raises(UsageError, match=r"hyperparameter output to s3://"):
        filled_in(configs.load(), found)
    assert filled_in(configs.load(values={"output": "s3://b/run"}), found).output == "s3://b/run"


def test_channels_named_after_splits_are_one_dataset(root: Path) -> None:
    found = _channels(root, train={}, validation={}, test={})
    assert found.data_uri == str(root / "input" / "data")


def test_one_channel_may_have_any_name(root: Path) -> None:
    assert _channels(root, flowers={}).data_uri == str(root / "input" / "data" / "flowers")


def test_other_channels_are_left_alone_and_named(root: Path) -> None:
    found = _channels(root, training={}, weights={})
    assert found.data_uri == str(root / "input" / "data" / "training")
    assert found.notes == (f"Channels left alone: weights (at {root / 'input' / 'data' / 'weights'}).",)


def test_channels_are_found_as_folders_where_nothing_describes_them(root: Path) -> None:
    (root / "input" / "config" / "inputdataconfig.json").unlink()
    assert recognise({}, sagemaker_root=root).data_uri == str(root / "input" / "data" / "training")


@pytest.mark.parametrize(
    ("channels", "hosts", "says"),
    [
        ({"training": {"TrainingInputMode": "Pipe"}}, ["algo-1"], "input mode Pipe"),
        ({"training": {"S3DistributionType": "ShardedByS3Key"}}, ["algo-1", "algo-2"], "needs all of the data"),
        ({"left": {}, "right": {}}, ["algo-1"], "The channels are left, right"),
        ({"train": {}, "test": {}, "weights": {}}, ["algo-1"], "named after the splits alone"),
    ],
)
def test_channels_that_cannot_be_the_data_are_refused_when_it_is_needed(
    root: Path, channels: dict[str, dict[str, str]], hosts: list[str], says: str
) -> None:
    _write(root, "resourceconfig", {"current_host": "algo-1", "hosts": hosts})
    found = _channels(root, **channels)
    with pytest.raises(UsageError, match=says):
        filled_in(configs.load(values={"output": "s3://b/run"}), found)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hyperparameters", "{", "hyperparameters.json is not the JSON"),
        ("hyperparameters", "[]", "a list where an object is expected"),
        ("resourceconfig", '{"current_host": "x", "hosts": ["a", "b"]}', "this one is 'x'"),
    ],
)
def test_a_file_that_sagemaker_would_not_write_is_refused(root: Path, name: str, text: str, says: str) -> None:
    (root / "input" / "config" / f"{name}.json").write_text(text)
    with pytest.raises(ConfigError, match=says):
        recognise({}, sagemaker_root=root)
