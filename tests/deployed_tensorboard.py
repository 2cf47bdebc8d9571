"""TensorBoard, started as the Deployment of k8s/tensorboard starts it, on another bucket and port."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[1]


def container() -> dict[str, Any]:
    """Returns the container of the Deployment."""
    deployment = yaml.safe_load((REPOSITORY / "k8s" / "tensorboard" / "deployment.yaml").read_text())
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


@contextlib.contextmanager
def started(uri: str, *, every_s: int = 1) -> Iterator[str]:
    """Runs it with the Deployment's arguments and returns its address; the bucket is the environment's.

    Differs from the cluster in the URI, in the port, which may be taken here, and in how often it looks.
    """
    assert "command" not in container(), "the image's entry point"
    arguments = container()["args"]
    changes = {"gs://YOUR_BUCKET/runs": uri, "--port=6006": f"--port={free_ports(1)[0]}"}
    assert set(changes) <= set(arguments)
    program = [sys.executable, "-m", "job", *(changes.get(each, each) for each in arguments), f"--every={every_s}"]
    with subprocess.Popen(program, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            _, _, port = json.loads(process.stdout.readline())["url"].rpartition(":")
            # 0.0.0.0 is no name that a browser opens.
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
