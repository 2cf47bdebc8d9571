"""The services' own libraries, in a process of their own environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SDKS = REPOSITORY / "tests" / "sdks"
PYTHON = REPOSITORY / ".tools" / "sdks" / "bin" / "python"


@pytest.fixture(scope="session")
def refusal() -> Iterator[Callable[[str, str], str]]:
    """Returns what a service's library says against a specification: `refusal("vertex", text)`, "" for nothing."""
    if not PYTHON.is_file():
        reason = "The libraries of Vertex AI and Azure ML are not installed: scripts/setup-sdks"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with subprocess.Popen(
        [PYTHON, SDKS / "validate.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(service: str, text: str) -> str:
            stdin.write(json.dumps({"service": service, "text": text}) + "\n")
            stdin.flush()
            answer: str = json.loads(stdout.readline())
            return answer

        yield ask
        stdin.close()
        process.wait()
