"""Azure ML's contract: inputs and outputs by name, in either case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job import config as configs
from job.errors import UsageError
from job.platforms import recognise
from job.workspace import filled_in

RUN = {"AZUREML_RUN_ID": "r"}
SEVERAL = json.dumps({"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}})


def test_names_are_taken_in_either_case() -> None:
    environ = {**RUN, "AZURE_ML_INPUT_data": "/mnt/in", "AZURE_ML_OUTPUT_OUTPUT": "/mnt/out"}
    found = recognise({**environ, "azure_ml_output_MODEL": "/mnt/model"})
    assert (found.name, found.data_uri, found.output_uri) == ("azureml", "/mnt/in", "/mnt/out")
    assert (found.model_uri, found.logs_uri, found.grace_s) == ("/mnt/model", None, 25.0)
    assert found.found_in["data"] == "AZURE_ML_INPUT_data"


def test_the_only_input_and_the_only_output_beside_the_model_may_have_any_name() -> None:
    found = recognise(
        {**RUN, "AZURE_ML_INPUT_flowers": "/in", "AZURE_ML_OUTPUT_results": "/out", "AZURE_ML_OUTPUT_model": "/m"}
    )
    assert (found.data_uri, found.output_uri, found.model_uri) == ("/in", "/out", "/m")


def test_two_inputs_of_other_names_are_not_guessed_between() -> None:
    found = recognise({**RUN, "AZURE_ML_INPUT_a": "/a", "AZURE_ML_INPUT_b": "/b"})
    with pytest.raises(UsageError, match="no input of the name data or"):
        filled_in(configs.load(), found)


def test_an_input_that_is_not_mounted_is_refused_when_it_is_needed() -> None:
    found = recognise({**RUN, "AZURE_ML_INPUT_data": "azureml://datastores/d/paths/p"})
    with pytest.raises(UsageError, match="has the mode direct"):
        filled_in(configs.load(), found)


def test_without_an_output_it_is_the_folder_that_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = recognise(RUN)
    assert found.output_uri == str(tmp_path / "outputs")
    assert "starts empty" in found.notes[0]


def test_several_machines_need_an_output_that_all_of_them_reach() -> None:
    found = recognise({**RUN, "TF_CONFIG": SEVERAL, "AZURE_ML_INPUT_data": "/in"})
    assert found.tf_config == SEVERAL
    with pytest.raises(UsageError, match="no output that all of them reach"):
        filled_in(configs.load(), found)
    assert recognise({**RUN, "TF_CONFIG": SEVERAL, "AZURE_ML_OUTPUT_output": "/out"}).output_uri == "/out"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cluster": {"worker": ["a:1"]}}'])
def test_what_names_no_several_machines_is_no_cluster(text: str) -> None:
    assert recognise({**RUN, "TF_CONFIG": text}).tf_config is None
