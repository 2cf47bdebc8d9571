"""Two workers of one job, on loopback."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.tiny import REPOSITORY, Done, command, environment
from tests.ports import free_ports


def start(index: int, ports: list[int], arguments: list[str]) -> subprocess.Popen[str]:
    """Starts one worker of as many as there are ports."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return subprocess.Popen(
        command(*arguments),
        cwd=REPOSITORY,
        env=environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Done:
    try:
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    return Done(process.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err)


def both(arguments: list[list[str]]) -> list[Done]:
    """Returns how two workers ended."""
    ports = free_ports(2)
    workers = [start(index, ports, one) for index, one in enumerate(arguments)]
    return [finished(worker) for worker in workers]
