"""The real TensorBoard, started as the Deployment starts it, answers its probes."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def answer(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_tensorboard_takes_the_deployment_s_arguments_and_answers_its_probes(tmp_path: Path) -> None:
    deployment = yaml.safe_load((REPOSITORY / "k8s" / "tensorboard" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments = [
        f"--logdir={tmp_path}" if each.startswith("--logdir=") else each.replace("--port=6006", "--port=0")
        for each in container["args"]
    ]
    assert f"--logdir={tmp_path}" in arguments
    program = [sys.executable, *container["command"][1:], *arguments]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if found := re.search(r"^TensorBoard .* at http://[^:]+:(\d+)/", line):
                    break
            assert found, "".join(log)
            address = f"http://127.0.0.1:{found[1]}"
            for probe in ("readinessProbe", "livenessProbe"):
                assert answer(address + container[probe]["httpGet"]["path"]) == 200
            assert answer(f"{address}/healthz") == 404, "the probes could ask for it"
        finally:
            process.terminate()
            process.communicate()
