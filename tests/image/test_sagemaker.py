"""The target `sagemaker` as SageMaker starts it: the argument `train` alone, as root, with everything below /opt/ml.

Source: docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.image.containers import TINY, Podman


def _opt_ml(folder: Path, parts: Path, **hyperparameters: str) -> tuple[str, ...]:
    """Makes /opt/ml as SageMaker does, with a CheckpointConfig; returns the flags of its `docker run`."""
    shutil.copytree(parts, folder / "input" / "data" / "training")
    for name in ("input/config", "model", "output/data", "output/tensorboard", "checkpoints"):
        (folder / name).mkdir(parents=True)
    written = {
        "hyperparameters": dict(one.split("=", 1) for one in TINY) | hyperparameters,
        "inputdataconfig": {
            "training": {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
        },
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
    }
    for name, content in written.items():
        (folder / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    variables = ("TRAINING_JOB_NAME=flowers-1", "TRAINING_JOB_ARN=arn:aws:sagemaker:x:0:training-job/flowers-1")
    return (
        f"--volume={folder}:/opt/ml:rw",
        "--network=none",
        "--shm-size=256m",
        "--tmpfs=/tmp:rw,mode=1777",
        *(f"--env={one}" for one in variables),
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
