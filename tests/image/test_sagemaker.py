"""The target `sagemaker` as SageMaker starts it: the argument `train` alone, as root, with everything below /opt/ml.

Source: docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from job import config
from job.render.sagemaker import Options, render
from tests.image.containers import TINY, Podman
from tests.unit.managed import places


def _opt_ml(folder: Path, parts: Path, **hyperparameters: str) -> tuple[str, ...]:
    """Makes /opt/ml as SageMaker does from what `finetune render` prints; returns the flags of its `docker run`."""
    given = config.load(overrides=TINY, values={"data.uri": "s3://bucket/parts", "output": "s3://bucket/runs/1"})
    options = Options(
        image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/finetune-job:0.1.0-sagemaker",
        role="arn:aws:iam::123456789012:role/Trainer",
        spot=True,
    )
    request = json.loads(render(given, options))
    request["HyperParameters"] |= hyperparameters
    arguments, variables = places.sagemaker(request, folder)
    assert arguments == ["train"]
    shutil.copytree(parts, folder / "input" / "data" / "training", dirs_exist_ok=True)
    return (
        f"--volume={folder}:/opt/ml:rw",
        "--network=none",
        "--shm-size=256m",
        "--tmpfs=/tmp:rw,mode=1777",
        *(f"--env={name}={value}" for name, value in variables.items()),
    )


def test_train_alone_is_stopped_and_started_again_and_leaves_the_model_where_it_is_packed(
    podman: Podman, sagemaker_image: str, parts: Path, tmp_path: Path
) -> None:
    root = tmp_path / "ml"
    flags = _opt_ml(root, parts, **{"checkpoint.every_steps": "3"})
    with podman.started(sagemaker_image, "train", flags=flags) as container:
        saved = root / "checkpoints" / "checkpoints"
        assert container.reaches(lambda: any(saved.glob("*/complete.json"))), container.ended().stderr
        container.signal("TERM")
        ended = container.ended()
    assert ended.code == 143, ended.stderr
    assert not (root / "model" / "1").exists()
    with podman.started(sagemaker_image, "train", flags=flags) as container:
        ended = container.ended()
        assert ended.code == 0, ended.stderr
        # Root may write anywhere, and writes nowhere else.
        changed = {change.split()[1] for change in container.changes()}
    assert changed <= {"/opt", "/opt/ml", "/etc", "/run"}
    assert any(event["message"].startswith("Going on from checkpoint") for event in ended.events)
    assert (root / "model" / "1" / "saved_model.pb").is_file()
    assert (root / "checkpoints" / "report.json").is_file()
    assert any((root / "output" / "tensorboard").rglob("events.out.tfevents*"))


def test_a_wrong_hyperparameter_is_the_reason_that_sagemaker_shows(
    podman: Podman, sagemaker_image: str, parts: Path, tmp_path: Path
) -> None:
    root = tmp_path / "ml"
    done = podman.run(sagemaker_image, "train", flags=_opt_ml(root, parts, **{"train.batchsize": "8"}))
    assert done.code == 78, done.stderr
    assert "train.batchsize" in (root / "output" / "failure").read_text()


def test_the_other_target_may_not_write_there_and_says_so(
    podman: Podman, image: str, parts: Path, tmp_path: Path
) -> None:
    root = tmp_path / "ml"
    done = podman.run(image, "train", flags=_opt_ml(root, parts))
    assert done.code == 77, done.stderr
    assert "/opt/ml/checkpoints" in done.error["message"]
