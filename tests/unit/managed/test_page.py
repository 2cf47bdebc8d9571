"""The commands of docs/managed-services.md are run, as far as they need no service."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from job.cli import app
from job.config import load
from job.render import azureml, sagemaker, vertex
from job.render.submission import MAX_NAME, run_name
from tests.unit.managed import test_sagemaker

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "managed-services.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
RENDERS = [line for line in COMMANDS if line.startswith("finetune render ")]
NEED_A_SERVICE = {
    "vertex": "gcloud ai custom-jobs create --region REGION --display-name finetune-first --config job.yaml",
    "sagemaker": "aws sagemaker create-training-job --cli-input-json file://job.json",
    "azureml": "az ml job create --file job.yaml",
}
THEIRS = {"--region", "--display-name", "--config", "--cli-input-json", "--training-job-name", "--file"}
"""Options of gcloud, aws and az."""


def test_every_command_is_run_or_needs_a_service() -> None:
    assert {line.split()[2] for line in RENDERS} == set(NEED_A_SERVICE)
    others = [line for line in COMMANDS if line not in RENDERS]
    assert [line for line in others if not line.startswith(tuple(NEED_A_SERVICE.values()))] == []


@pytest.mark.parametrize("line", RENDERS)
def test_a_render_command_prints_what_the_service_takes(
    line: str, tmp_path: Path, refusal: Callable[[str, str], str]
) -> None:
    line, _, file = line.partition(" > ")
    _, _, service, *_ = arguments = shlex.split(line)
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "config.yaml").write_text(text)
    program = [sys.executable, "-m", "job", *arguments[1:]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if service == "sagemaker":
        assert test_sagemaker.refusal(json.loads(done.stdout)) == ""
    else:
        assert refusal(service, done.stdout) == ""
        # The file tells which command takes it.
        first = done.stdout.splitlines()[0].removeprefix("# ")
        assert first.split(" --")[0] == NEED_A_SERVICE[service].split(" --")[0]
        assert set(re.findall(r"--[a-z-]+", first)) <= THEIRS
    assert not file or file in NEED_A_SERVICE[service], "what is written is what is read"


def test_the_errors_of_the_command_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {uri: photos}\noutput: gs://b/runs/1\n")
    for arguments, code, says in (
        (("vertex", "config.yaml", "--image", "r/j:1"), 78, "a folder of this machine"),
        (("vertex", "config.yaml", "--image", "r/j"), 2, "neither a tag nor a digest"),
        (("sagemaker", "config.yaml", "--image", "r/j:1"), 2, "--role"),
        (("azureml", "none.yaml", "--image", "r/j:1"), 66, "no config file"),
    ):
        program = [sys.executable, "-m", "job", "render", *arguments]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert says in done.stderr


def test_every_option_is_on_the_page_and_no_other() -> None:
    commands = get_command(app).commands["render"].commands  # type: ignore[attr-defined]
    options = {
        option
        for service in NEED_A_SERVICE
        for parameter in commands[service].params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert set(re.findall(r"--[a-z][a-z-]*", PAGE)) - THEIRS == options


def test_the_machines_on_the_page_are_those_that_are_chosen() -> None:
    rows = [[cell.strip(" `") for cell in row.split("|")] for row in re.findall(r"^\| (\d .*)\|$", PAGE, re.M)]
    for column, machines in enumerate((vertex.MACHINES, sagemaker.MACHINES, azureml.MACHINES), start=1):
        assert {int(row[0]): row[column] for row in rows if row[column]} == machines


def test_the_same_run_has_the_same_name_everywhere(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "config.yaml").write_text(text)
    settings = load(tmp_path / "config.yaml")
    name = run_name(settings, longest=MAX_NAME)
    assert f"--display-name {name} " in vertex.render(settings, vertex.Options(image="r/j:1")).splitlines()[0]
    job = yaml.safe_load(azureml.render(settings, azureml.Options(image="r/j:1")))
    assert job["display_name"] == name
    given = sagemaker.Options(image=test_sagemaker.IMAGE, role=test_sagemaker.ROLE, artifacts="s3://b/m")
    assert json.loads(sagemaker.render(settings, given))["TrainingJobName"] == name
