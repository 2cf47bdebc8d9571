"""The command line answers at once: its help, its settings and its tables load nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from job import __version__
from job.model.backbones import BACKBONES

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = ("train", "check", "predict", "evaluate", "config", "demo", "platform", "tensorboard")
HEAVY = ("tensorflow", "keras", "numpy", "google.cloud", "boto3", "azure", "h5py", "scipy")
RENDERS = ("render kubernetes", "render vertex", "render sagemaker", "render azureml")
# What even `--help` may not load: it has to answer in under 0.3 s. (Typer itself loads pydantic for a command.)
SLOW = (*HEAVY, "rich", "yaml", "PIL")

PROGRAM = """
import sys
from job.cli import main
try:
    main()
finally:
    print("loaded:", *sorted(sys.modules), file=sys.stderr)
"""


def _run(*arguments: str) -> tuple[int, str, set[str]]:
    """Returns exit code, stdout and the modules that were loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    said, _, loaded = done.stderr.rpartition("loaded:")
    return done.returncode, done.stdout + said, set(loaded.split())


@pytest.mark.parametrize("command", ["", *COMMANDS, *RENDERS])
def test_help_has_examples_and_loads_nothing_slow(command: str) -> None:
    code, text, loaded = _run(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in text
    assert f"finetune {command}".strip() in text
    assert not loaded & set(SLOW)


def test_without_arguments_the_help_is_shown() -> None:
    code, text, _ = _run()
    assert code == 2
    assert all(command in text for command in COMMANDS)


def test_the_version_is_printed() -> None:
    assert _run("--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [("config",), ("config", "--schema"), ("config", "--backbones"), ("check", "--no-data")],
    ids=lambda arguments: " ".join(arguments),
)
def test_settings_are_shown_and_checked_without_tensorflow(arguments: tuple[str, ...]) -> None:
    code, text, loaded = _run(*arguments)
    assert code == 0
    assert not loaded & set(HEAVY)
    if arguments == ("config",):
        assert yaml.safe_load(text)["train"]["preset"] == "balanced"
    if "--schema" in arguments:
        assert json.loads(text)["properties"]["train"]
    if "--backbones" in arguments:
        assert all(f"{name} " in text for name in BACKBONES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trian",), "Did you mean 'train'?"),
        (("train", "--nonsense"), "--nonsense"),
        (("predict",), "MODEL_URI"),
        (("predict", "model", "image", "--top", "0"), "--top"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what(arguments: tuple[str, ...], says: str) -> None:
    code, text, _ = _run(*arguments)
    assert code == 2
    assert says in text
