"""Containers of the image under test, run the way a hardened cluster runs them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = "/opt/venv/bin/python"

HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp:rw,size=256m,mode=1777",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=3g",
    "--pids-limit=1024",
    "--shm-size=256m",
)
"""What k8s/base/job.yaml asks for: nothing can be written but /tmp and what is mounted."""

NO_SHELL = tuple(f"--volume=/dev/null:/usr/bin/{name}:ro" for name in ("dash", "bash"))
"""/bin/sh and every other shell of the image are a file that cannot be executed."""

TINY = (
    "model.backbone=mobilenet_025",
    "model.weights=/opt/app/job/demo/backbone.weights.h5",
    "data.image_px=96",
    "train.deterministic=true",
    "train.batch=8",
    "train.head.epochs=2",
    "train.finetune.epochs=3",
    "train.finetune.learning_rate=0.0001",
    "train.finetune.views=2",
    "evaluate.bootstrap=100",
)
"""A job of seconds, every number of it repeatable."""


@dataclass(frozen=True)
class Ended:
    """A container that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `train` printed: one JSON object a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The last line of stderr, which says why the job ended."""
        found: dict[str, Any] = json.loads(self.stderr.strip().splitlines()[-1])
        return found


@dataclass(frozen=True)
class Podman:
    """Podman with the store that the image was built into.

    Attributes:
        environ: The process environment with the variables that name the store and its settings.
    """

    environ: dict[str, str]

    @property
    def folder(self) -> str:
        """Where podman runs: its monitor leaves a file `oom` there when a container has run out of memory."""
        return self.environ["FINETUNE_IMAGE_STORE"]

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs one podman command."""
        done = subprocess.run(
            ["podman", *arguments], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}: {done.stderr}"
        return done

    def run(self, image: str, *arguments: str, flags: Sequence[str] = (), python: bool = False) -> Ended:
        """Runs a container to its end; with `python` the interpreter instead of the job."""
        with self.started(image, *arguments, flags=flags, python=python) as container:
            return container.ended()

    @contextlib.contextmanager
    def started(
        self, image: str, *arguments: str, flags: Sequence[str] = (), python: bool = False
    ) -> Iterator[Container]:
        """Starts a container and removes it at the end, whatever happened."""
        name = f"finetune-test-{secrets.token_hex(4)}"
        entry = ["--entrypoint", PYTHON] if python else []
        command = ["podman", "run", "--name", name, *flags, *entry, image, *arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield Container(self, name, process)
        finally:
            self("rm", "--force", "--time", "0", name, check=False)
            process.communicate()


@dataclass(frozen=True)
class Container:
    """A container that was started; `process` is the podman that waits for it and passes on its exit code."""

    podman: Podman
    name: str
    process: subprocess.Popen[str]

    def ended(self) -> Ended:
        """Waits for its end."""
        stdout, stderr = self.process.communicate()
        return Ended(self.process.returncode, stdout, stderr)

    def reaches(self, is_reached: Callable[[], bool]) -> bool:
        """Returns whether it came so far before it ended."""
        while self.process.poll() is None:
            if is_reached():
                return True
            # It works while this one looks; a short wait leaves it the processor.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        return is_reached()

    def signal(self, name: str) -> None:
        """Sends its process 1 a signal, as the kubelet does."""
        self.podman("kill", "--signal", name, self.name)

    def changes(self) -> list[str]:
        """Returns what differs from the image outside mounts: `A /path` added, `C` changed, `D` deleted."""
        return self.podman("diff", self.name).stdout.splitlines()


def mounted(folder: Path, at: str, *, read_only: bool = False) -> str:
    """Returns the flag that mounts a folder; the user of the container may write to it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return f"--volume={folder}:{at}:{'ro' if read_only else 'rw'}"


def settings(*changes: str) -> list[str]:
    """Returns the arguments of a tiny job."""
    return [part for one in (*TINY, *changes) for part in ("--set", one)]


def with_environment(**variables: str) -> dict[str, str]:
    return {**os.environ, **variables}
