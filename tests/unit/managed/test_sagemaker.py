"""`finetune render sagemaker`: what SageMaker's model of CreateTrainingJob takes, and what the job then finds."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator

from job import cluster, config
from job.cluster import Cluster
from job.errors import ConfigError, UsageError
from job.platforms import recognise
from job.render.sagemaker import MAX_HYPERPARAMETER, Options, render
from tests.unit.managed.places import Spec, changed, sagemaker, settings

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/finetune-job:0.1.0-sagemaker"
ROLE = "arn:aws:iam::123456789012:role/service-role/Trainer"
GIVEN = {"data.uri": "s3://b/photos", "output": "s3://b/runs/1", "train.seed": 7, "telemetry.profile_steps": [3, 7]}
SHAPE = botocore.session.Session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape


def request(options: dict[str, Any] | None = None, **values: Any) -> Spec:
    given = Options(**{"image": IMAGE, "role": ROLE, **(options or {})})
    found: Spec = json.loads(render(config.load(values={**GIVEN, **values}), given))
    return found


def everything() -> Spec:
    return request({"gpus": 1, "spot": True})


def refusal(tree: Spec) -> str:
    """Returns what botocore finds, and what the service's model says about lengths, patterns and words; or ""."""
    report = ParamValidator().validate(tree, SHAPE)
    if report.has_errors():
        return report.generate_report()
    return "; ".join(_limits(tree, SHAPE, "request"))


def _limits(value: Any, shape: Shape, where: str) -> list[str]:
    limits = shape.metadata
    size = value if isinstance(value, int) else len(value)
    found = []
    if not limits.get("min", size) <= size <= limits.get("max", size):
        found.append(f"{where}: {size} is not within {limits.get('min')} and {limits.get('max')}")
    if "enum" in limits and value not in limits["enum"]:
        found.append(f"{where}: {value!r} is none of the words")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        found.append(f"{where}: {value!r} does not match {limits['pattern']}")
    if shape.type_name == "structure":
        found += [each for key, item in value.items() for each in _limits(item, shape.members[key], f"{where}.{key}")]
    elif shape.type_name == "map":
        for key, item in value.items():
            found += _limits(key, shape.key, f"{where} key") + _limits(item, shape.value, f"{where}.{key}")
    elif shape.type_name == "list":
        found += [each for item in value for each in _limits(item, shape.member, f"{where}[]")]
    return found


@pytest.mark.parametrize(("gpus", "nodes", "spot"), [*itertools.product((0, 1, 4, 8), (1, 3), (False, True))])
def test_every_choice_is_taken(gpus: int, nodes: int, spot: bool) -> None:
    found = request({"gpus": gpus, "nodes": nodes, "spot": spot})
    assert refusal(found) == ""
    assert found["ResourceConfig"]["InstanceCount"] == nodes
    assert found["EnableManagedSpotTraining"] == spot
    assert ("MaxWaitTimeInSeconds" in found["StoppingCondition"]) == spot
    assert ("CheckpointConfig" in found) == (nodes == 1)
    assert ("output" in found["HyperParameters"]) == (nodes > 1)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("TrainingJobName", "finetune_1"),
        ("TrainingJobName", "f" * 64),
        ("TrainingJobName", ...),
        ("RoleArn", ...),
        ("RoleArn", "Trainer"),
        ("HyperParameters.train~seed", 7),
        ("HyperParameters.train~seed", "7" * 2501),
        ("AlgorithmSpecification.TrainingInputMode", ...),
        ("AlgorithmSpecification.TrainingInputMode", "Files"),
        ("AlgorithmSpecification.Image", IMAGE),
        ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "photos"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataType", "Folder"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataDistributionType", "Replicated"),
        ("InputDataConfig", []),
        ("OutputDataConfig", ...),
        ("ResourceConfig.InstanceType", "g5.xlarge"),
        ("ResourceConfig.InstanceCount", "1"),
        ("StoppingCondition.MaxRuntimeInSeconds", 86400.5),
        ("StoppingCondition.MaxRuntimeInSeconds", 0),
        ("CheckpointConfig.S3Uri", "gs://b/runs/1"),
        ("CheckpointConfig.S3Uri", ...),
        ("EnableManagedSpotTraining", "true"),
        ("TensorBoardOutputConfig.S3OutputPath", ...),
    ],
)
def test_a_broken_request_is_refused(keys: str, value: Any) -> None:
    broken = json.loads(json.dumps(everything()).replace('"train.seed"', '"train~seed"'))
    assert refusal(broken) == ""
    assert refusal(changed(broken, keys, value))


def test_what_was_rendered_is_recognised_with_the_same_settings(tmp_path: Path) -> None:
    arguments, variables = sagemaker(everything(), tmp_path)
    platform = recognise(variables, sagemaker_root=tmp_path)
    assert (platform.name, platform.tf_config, platform.notes) == ("sagemaker", None, ())
    # SageMaker copies the first from the data and the second to the output.
    there = {"data.uri": str(tmp_path / "input" / "data" / "training"), "output": str(tmp_path / "checkpoints")}
    assert settings(arguments, platform) == config.load(values={**GIVEN, **there})
    assert everything()["CheckpointConfig"]["S3Uri"] == GIVEN["output"]
    assert everything()["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://b/photos/"
    # Of the 120 s from SIGTERM to the kill. Source: StopTrainingJob.
    assert platform.grace_s < 120


@pytest.mark.parametrize("host", [1, 2, 3])
def test_several_hosts_write_to_the_output_themselves(tmp_path: Path, host: int) -> None:
    arguments, variables = sagemaker(request({"nodes": 3}), tmp_path, host)
    platform = recognise(variables, sagemaker_root=tmp_path)
    there = {"data.uri": str(tmp_path / "input" / "data" / "training")}
    assert settings(arguments, platform) == config.load(values={**GIVEN, **there})
    assert cluster.of("auto", {"TF_CONFIG": platform.tf_config or ""}) == Cluster(3, host - 1)
    assert variables["AWS_REGION"] == "eu-west-1"


@pytest.mark.parametrize(
    "data", ["s3://b/photos.CSV", "s3://b/photos/labels.jsonl", "s3://b/a.tar.gz", "gs://b/photos"]
)
def test_a_file_or_another_cloud_s_bucket_is_read_by_the_job_itself(tmp_path: Path, data: str) -> None:
    found = request(**{"data.uri": data})
    assert refusal(found) == ""
    assert "InputDataConfig" not in found
    arguments, variables = sagemaker(found, tmp_path)
    assert settings(arguments, recognise(variables, sagemaker_root=tmp_path)).data.uri == data


def test_an_output_in_another_cloud_is_written_by_the_job_itself(tmp_path: Path) -> None:
    found = request({"artifacts": "s3://b/models"}, output="gs://b/runs/1")
    assert refusal(found) == ""
    assert "CheckpointConfig" not in found
    arguments, variables = sagemaker(found, tmp_path)
    assert settings(arguments, recognise(variables, sagemaker_root=tmp_path)).output == "gs://b/runs/1"


def test_what_sagemaker_writes_by_itself_is_beside_the_run() -> None:
    assert request()["OutputDataConfig"]["S3OutputPath"] == "s3://b/runs"
    assert request(output="s3://b/1/")["OutputDataConfig"]["S3OutputPath"] == "s3://b"
    assert request({"artifacts": "s3://c/m/"})["TensorBoardOutputConfig"]["S3OutputPath"] == "s3://c/m"


def test_the_longest_config_is_within_what_a_job_takes() -> None:
    whole = config.load(values=GIVEN)
    tree = whole.model_dump(exclude={"work_dir"})
    rendered = render(config.validate(tree), Options(image=IMAGE, role=ROLE))
    assert refusal(json.loads(rendered)) == ""


def test_the_longest_value_is_within_what_a_job_takes() -> None:
    weights = "s3://b/".ljust(MAX_HYPERPARAMETER, "w")
    assert refusal(request(**{"model.weights": weights})) == ""
    with pytest.raises(ConfigError, match="model.weights has 2501 characters"):
        request(**{"model.weights": weights + "w"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "registry/finetune-job:0.1.0"}, "takes images from Amazon ECR"),
        ({"image": IMAGE.rpartition(":")[0]}, "neither a tag nor a digest"),
        ({"role": "Trainer"}, "must be the ARN of a role"),
        ({"name": "1-rose"}, "--name is '1-rose'"),
        ({"gpus": 2}, "have 0, 1, 4, 8"),
        ({"gpus": 1, "machine_type": "ml.p4d.24xlarge"}, "says how many GPUs there are"),
        ({"max_wait_hours": 3.0}, "about spot machines"),
        ({"spot": True, "max_wait_hours": 23.0}, "less than --max-hours"),
        ({"artifacts": "s3://b/runs/1/model"}, "outside of the output"),
        ({"artifacts": "models"}, "must be an s3:// folder"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        request(options)
    assert caught.value.next_step


@pytest.mark.parametrize("output", ["s3://b", "gs://b/runs/1"])
def test_where_nothing_is_beside_the_run_another_place_is_asked_for(output: str) -> None:
    with pytest.raises(UsageError, match="beside the run's folder"):
        request(output=output)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data.uri": "/opt/ml/input/data/training"}, "a folder of this machine"),
        ({"output": "runs/1"}, "a folder of this machine"),
        ({"output": None}, "output is not set"),
        ({"work_dir": "/scratch"}, "a machine of SageMaker does not have"),
        ({"train.strategy": "multi_worker"}, "--nodes is 1"),
        ({"model.weights": "https://h/w.h5?X-Amz-Signature=0123456789abcdef"}, "holds a secret"),
    ],
)
def test_what_the_machines_do_not_have_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        request(**values)
    assert caught.value.next_step


def test_other_machines_and_times_are_what_was_asked_for() -> None:
    options = {"machine_type": "ml.p4d.24xlarge", "spot": True, "max_hours": 2.0, "max_wait_hours": 3.0, "disk_gb": 500}
    found = request({**options, "name": "roses"})
    assert refusal(found) == ""
    assert found["TrainingJobName"] == "roses"
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 10800}
    assert found["ResourceConfig"]["InstanceType"] == "ml.p4d.24xlarge"
    assert found["ResourceConfig"]["VolumeSizeInGB"] == 500
