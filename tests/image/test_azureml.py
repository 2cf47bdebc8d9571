"""The image as Azure ML starts it: a command in a shell, in place of the entrypoint, with inputs and outputs mounted.

Source: those of `job/platforms/azureml.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from job import config
from job.render.azureml import Options, render
from tests.image.containers import TINY, Podman
from tests.unit.managed import places


def test_its_command_in_a_shell_leaves_run_and_model_in_the_mounted_outputs(
    podman: Podman, image: str, parts: Path, tmp_path: Path
) -> None:
    given = config.load(
        overrides=(*TINY, "train.preset=fast"), values={"data.uri": "az://c/parts", "output": "az://c/runs/1"}
    )
    job = yaml.safe_load(render(given, Options(image="r/finetune-job:0.1.0", datastore="photos", register="parts")))
    mounts = tmp_path / "mounts"
    folders = places.azureml_folders(job, mounts, 1)
    shutil.copytree(parts, folders["inputs.data"], dirs_exist_ok=True)
    command, variables = places.azureml(job, folders)
    flags = [
        f"--volume={mounts}:{mounts}:rw",
        "--user=0",
        "--network=none",
        "--shm-size=256m",
        "--entrypoint=/bin/sh",
        *(f"--env={name}={value}" for name, value in variables.items()),
    ]
    done = podman.run(image, "-c", command, flags=flags)
    assert done.code == 0, done.stderr
    assert Path(folders["outputs.model"], "saved_model.pb").is_file()
    output = Path(folders["outputs.output"])
    report = json.loads((output / "report.json").read_text())
    assert report["accepted"] is True
    assert report["data"]["num_images"] == 60 + 5
    assert any((output / "logs").glob("events*"))
