"""What the place where the job runs tells it."""

from __future__ import annotations

from pathlib import Path

from job.platforms import recognise, say_why


def test_a_laptop_says_nothing(tmp_path: Path) -> None:
    found = recognise({}, sagemaker_root=tmp_path)
    assert (found.name, found.data_uri, found.output_uri) == ("laptop", None, None)


def test_kubernetes_is_known_by_its_service(tmp_path: Path) -> None:
    assert recognise({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, sagemaker_root=tmp_path).name == "kubernetes"


def test_the_reason_goes_where_a_platform_shows_it(tmp_path: Path) -> None:
    log, failure = tmp_path / "dev" / "termination-log", tmp_path / "opt" / "ml" / "output" / "failure"
    say_why("no such place", root=tmp_path)
    assert not list(tmp_path.rglob("*"))
    log.parent.mkdir()
    log.touch()
    failure.parent.mkdir(parents=True)
    say_why("x" * 5000, root=tmp_path)
    say_why("a bucket is not there", root=tmp_path)
    assert [path.read_text() for path in (log, failure)] == ["a bucket is not there"] * 2


def test_a_place_that_cannot_be_written_to_changes_nothing(tmp_path: Path) -> None:
    failure = tmp_path / "opt" / "ml" / "output" / "failure"
    failure.mkdir(parents=True)
    say_why("a bucket is not there", root=tmp_path)
    assert failure.is_dir()


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


def test_azure_ml_names_are_taken_in_either_case(tmp_path: Path) -> None:
    environ = {"AZUREML_RUN_ID": "r", "AZURE_ML_INPUT_data": "/mnt/in", "AZURE_ML_OUTPUT_OUTPUT": "/mnt/out"}
    found = recognise(environ, sagemaker_root=tmp_path)
    assert (found.name, found.data_uri, found.output_uri) == ("azureml", "/mnt/in", "/mnt/out")
