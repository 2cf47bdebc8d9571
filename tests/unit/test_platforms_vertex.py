"""Vertex AI's contract: variables for folders, managed data and machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job import cluster
from job import config as configs
from job.cluster import Cluster
from job.dataset import layouts
from job.errors import ConfigError, DatasetError, UsageError
from job.platforms import Platform, recognise
from job.workspace import filled_in

BASE = {
    "CLOUD_ML_JOB_ID": "7",
    "AIP_MODEL_DIR": "gs://bucket/run/model/",
    "AIP_CHECKPOINT_DIR": "gs://bucket/run/checkpoints/",
    "AIP_TENSORBOARD_LOG_DIR": "gs://bucket/run/logs/",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
}
MANAGED = {
    "AIP_DATA_FORMAT": "jsonl",
    "AIP_TRAINING_DATA_URI": "gs://bucket/dataset-7/training-*",
    "AIP_VALIDATION_DATA_URI": "gs://bucket/dataset-7/validation-*",
    "AIP_TEST_DATA_URI": "gs://bucket/dataset-7/test-*",
}
POOLS = {"chief": ["a:2222"], "worker": ["b:2222", "c:2222"]}


def test_the_run_is_the_base_output_directory() -> None:
    found = recognise(BASE)
    assert (found.name, found.output_uri, found.grace_s) == ("vertex", "gs://bucket/run", 25.0)
    assert (found.model_uri, found.logs_uri) == ("gs://bucket/run/model", "gs://bucket/run/logs")
    assert found.found_in == {
        "platform": "CLOUD_ML_JOB_ID",
        "output": "AIP_MODEL_DIR",
        "model": "AIP_MODEL_DIR",
        "logs": "AIP_TENSORBOARD_LOG_DIR",
    }


def test_a_trial_has_its_own_folder() -> None:
    found = recognise({**BASE, "AIP_MODEL_DIR": "gs://bucket/run/3/model/"})
    assert found.output_uri == "gs://bucket/run/3"


def test_without_a_base_output_directory_the_error_says_so() -> None:
    found = recognise({"CLOUD_ML_JOB_ID": "7"})
    assert found.output_uri is None
    with pytest.raises(UsageError, match="no baseOutputDirectory"):
        filled_in(configs.load(values={"data.uri": "gs://b/d"}), found)


def test_a_managed_dataset_is_the_folder_of_its_shards() -> None:
    found = recognise({**BASE, **MANAGED})
    config = filled_in(configs.load(), found)
    assert (config.data.uri, config.data.layout) == ("gs://bucket/dataset-7", "jsonl")
    assert "AIP_TEST_DATA_URI" in found.found_in["data"]


def test_data_that_the_config_names_keeps_its_layout() -> None:
    config = filled_in(configs.load(values={"data.uri": "gs://b/photos"}), recognise({**BASE, **MANAGED}))
    assert (config.data.uri, config.data.layout) == ("gs://b/photos", "auto")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"AIP_DATA_FORMAT": "bigquery", "AIP_TRAINING_DATA_URI": "bq://p.d.t"}, "comes as bigquery"),
        ({"AIP_TEST_DATA_URI": "gs://elsewhere/test-*"}, "in one folder"),
        ({"AIP_TEST_DATA_URI": "gs://bucket/dataset-7/holdout-*"}, "holdout-"),
    ],
)
def test_managed_data_of_another_kind_is_refused_when_it_is_needed(change: dict[str, str], says: str) -> None:
    found = recognise({**BASE, **MANAGED, **change})
    with pytest.raises(UsageError, match=says):
        filled_in(configs.load(), found)
    assert filled_in(configs.load(values={"data.uri": "gs://b/d"}), found).data.uri == "gs://b/d"


def _line(number: int, label: str) -> str:
    entry: dict[str, Any] = {"imageGcsUri": f"gs://b/{number}.jpg", "classificationAnnotation": {"displayName": label}}
    # What the import said; the shard is what counts.
    entry["dataItemResourceLabels"] = {"aiplatform.googleapis.com/ml_use": "training"}
    return json.dumps(entry)


@pytest.mark.parametrize("extension", [".jsonl", ""])
def test_shards_together_are_the_dataset_with_its_given_splits(tmp_path: Path, extension: str) -> None:
    shards = {"training-00000-of-00002": [0, 1], "training-00001-of-00002": [2], "validation-00000-of-00001": [3]}
    for name, numbers in {**shards, "test-00000-of-00001": [4]}.items():
        lines = [_line(number, "cat" if number % 2 else "dog") for number in numbers]
        (tmp_path / f"{name}{extension}").write_text("\n".join(lines))
    found = layouts.read(tmp_path, "jsonl", work_dir=tmp_path)
    assert sorted((one.uri[7:8], one.label, str(one.split)) for one in found) == [
        ("0", "dog", "train"),
        ("1", "cat", "train"),
        ("2", "dog", "train"),
        ("3", "cat", "validation"),
        ("4", "dog", "test"),
    ]


def test_an_image_in_two_shards_is_named_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "test-0.jsonl").write_text(_line(1, "cat"))
    (tmp_path / "training-0.jsonl").write_text("\n".join([_line(0, "cat"), _line(1, "cat")]))
    with pytest.raises(DatasetError, match=r"training-0.jsonl, line 2 lists .* but test-0.jsonl, line 1"):
        layouts.read(tmp_path, "jsonl", work_dir=tmp_path)


def test_two_manifests_that_are_no_shards_are_still_refused(tmp_path: Path) -> None:
    for name in ("training-0.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(_line(0, "cat"))
    with pytest.raises(DatasetError, match="exactly one manifest"):
        layouts.read(tmp_path, "jsonl", work_dir=tmp_path)


@pytest.mark.parametrize(
    ("kind", "index", "worker"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)], ids=["chief", "first", "second"]
)
def test_machines_come_from_tf_config_with_its_extra_keys(kind: str, index: int, worker: int) -> None:
    task = {"type": kind, "index": index, "trial": "3", "cloud": "x"}
    config = {"cluster": {**POOLS, "ps": []}, "task": task, "environment": "cloud", "job": '{"a": 1}'}
    found = recognise({**BASE, "TF_CONFIG": json.dumps(config)})
    assert found.tf_config is not None
    assert json.loads(found.tf_config) == {"cluster": POOLS, "task": {"type": kind, "index": index}}
    assert cluster.of("auto", {"TF_CONFIG": found.tf_config}) == Cluster(3, worker)


def test_machines_come_from_cluster_spec_where_tf_config_is_not_set() -> None:
    spec = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}
    config = {"cluster": spec, "environment": "cloud", "task": {"type": "workerpool1", "index": 1}}
    found = recognise({**BASE, "CLUSTER_SPEC": json.dumps(config)})
    assert found.tf_config is not None
    assert json.loads(found.tf_config)["cluster"] == POOLS
    assert cluster.of("auto", {"TF_CONFIG": found.tf_config}) == Cluster(3, 2)
    assert found.found_in["workers"] == "CLUSTER_SPEC"


def test_one_machine_is_no_cluster() -> None:
    config = {"cluster": {"chief": ["127.0.0.1:2222"]}, "task": {"type": "chief", "index": 0}, "environment": "cloud"}
    assert recognise({**BASE, "TF_CONFIG": json.dumps(config)}).tf_config is None


@pytest.mark.parametrize(
    "config",
    [
        {"cluster": {**POOLS, "ps": ["d:2222"]}, "task": {"type": "chief", "index": 0}},
        {"cluster": POOLS, "task": {"type": "evaluator", "index": 0}},
        {"cluster": {"workerpool0": ["a:1"], "workerpool2": ["b:1"]}, "task": {"type": "workerpool0", "index": 0}},
    ],
    ids=["parameter server", "evaluator", "workerpool2"],
)
def test_machines_that_would_do_nothing_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"workerPoolSpecs\[1\]") as refused:
        recognise({**BASE, "TF_CONFIG": json.dumps(config)})
    assert "chief and workers" in refused.value.message


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the JSON that Vertex AI writes"):
        recognise({**BASE, "TF_CONFIG": "{"})


def test_a_mounted_bucket_is_reached_as_a_bucket() -> None:
    config = configs.load(values={"data.uri": "/gcs/b/photos", "output": "/gcs/b/runs/1"})
    there = filled_in(config, recognise(BASE))
    assert (there.data.uri, there.output) == ("gs://b/photos", "gs://b/runs/1")
    here = filled_in(config, Platform("laptop"))
    assert (here.data.uri, here.output) == ("/gcs/b/photos", "/gcs/b/runs/1")
