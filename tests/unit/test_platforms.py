"""What the place where the job runs tells it."""

from __future__ import annotations

from pathlib import Path

from job.platforms import recognise


def test_a_laptop_says_nothing(tmp_path: Path) -> None:
    found = recognise({}, sagemaker_root=tmp_path)
    assert (found.name, found.data_uri, found.output_uri) == ("laptop", None, None)


def test_kubernetes_has_a_termination_log(tmp_path: Path) -> None:
    found = recognise({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, sagemaker_root=tmp_path)
    assert found.name == "kubernetes"
    assert found.failure_path == Path("/dev/termination-log")


def test_vertex_names_data_and_the_folder_above_the_model(tmp_path: Path) -> None:
    environ = {
        "CLOUD_ML_JOB_ID": "7",
        "AIP_MODEL_DIR": "gs://bucket/run/model/",
        "AIP_TRAINING_DATA_URI": "gs://bucket/data/training-*",
    }
    found = recognise(environ, sagemaker_root=tmp_path)
    assert (found.name, found.output_uri) == ("vertex", "gs://bucket/run")
    assert found.data_uri == "gs://bucket/data/training-*"


def test_sagemaker_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "data" / "training").mkdir(parents=True)
    found = recognise({}, sagemaker_root=tmp_path)
    assert found.name == "sagemaker"
    assert found.data_uri == str(tmp_path / "input" / "data" / "training")
    assert found.output_uri == str(tmp_path / "model")
    assert found.failure_path == tmp_path / "output" / "failure"


def test_azure_ml_names_are_taken_in_either_case(tmp_path: Path) -> None:
    environ = {"AZUREML_RUN_ID": "r", "AZURE_ML_INPUT_data": "/mnt/in", "AZURE_ML_OUTPUT_OUTPUT": "/mnt/out"}
    found = recognise(environ, sagemaker_root=tmp_path)
    assert (found.name, found.data_uri, found.output_uri) == ("azureml", "/mnt/in", "/mnt/out")
