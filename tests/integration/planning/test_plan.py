"""`finetune plan` on a tiny dataset: it measures every stage, leaves the output alone, and keeps what a run can use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import job.demo
from job import config as configs

NUM_EACH = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(NUM_EACH):
            pixels = np.clip(rng.normal(level, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    config = configs.load(
        None,
        [
            f"data.uri={folder / 'photos'}",
            f"output={folder / 'out'}",
            f"work_dir={folder / 'work'}",
            "model.backbone=mobilenet_025",
            f"model.weights={Path(job.demo.__file__).with_name('backbone.weights.h5')}",
            "data.image_px=32",
            "train.batch=8",
            "train.head.epochs=2",
            "train.finetune.epochs=3",
            "evaluate.bootstrap=100",
        ],
    )
    (folder / "config.yaml").write_text(configs.to_yaml(config))
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "job", "plan", str(place / "config.yaml"), "--json", "--price-per-hour", "3.6"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def test_every_stage_is_measured_and_counts_what_the_run_will_do(found: dict[str, Any]) -> None:
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == [
        *("start", "survey", "build", "features", "probe", "head", "finetune"),
        *("evaluate", "export", "prove", "report"),
    ]
    assert all(stage["seconds"]["1"] > 0 for stage in stages.values())
    num_train = stages["probe"]["num_images"]
    assert 0 < num_train < 2 * NUM_EACH
    assert stages["head"]["num_steps"] == -(-2 * num_train // 8)
    assert stages["finetune"]["num_steps"] == -(-3 * num_train // 8)
    # The plain view of training and validation images, and one more view of the training images.
    assert stages["features"]["num_images"] == 2 * NUM_EACH - stages["evaluate"]["num_images"] + num_train
    assert found["seconds"]["1"] == pytest.approx(sum(stage["seconds"]["1"] for stage in stages.values()))
    assert found["cost"]["1"] == pytest.approx(found["seconds"]["1"] / 1000)
    assert found["disk_bytes"]["export"] > 0
    assert found["checkpoints"] == {"number": 3, "bytes": found["checkpoints"]["bytes"]}


def test_the_output_is_left_alone_and_the_packed_images_are_kept(place: Path, found: dict[str, Any]) -> None:
    assert found["stages"][1]["is_done"]
    assert not (place / "out").exists()
    (run,) = (place / "work" / "runs").iterdir()
    assert [path.name for path in run.iterdir()] == ["cache"]
    assert len(list((run / "cache").glob("pixels-*.npy"))) == 1


def test_one_of_several_machines_is_refused(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "job", "plan", str(place / "config.yaml")],
        env={
            "PATH": "",
            "TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}',
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "measures one machine" in done.stderr
