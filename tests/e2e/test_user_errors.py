"""Every error a user can cause: what, received, allowed, next step; the exit code; nothing half-written left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Fault, Status
from job.errors import AccessError
from tests.e2e.tiny import REPOSITORY, Done, command, train_arguments

Run = Callable[..., Done]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


def _assert_refused(done: Done, code: int, *parts: str) -> None:
    assert done.code == code, done.stderr
    message = done.error["message"]
    for part in (*parts, "Next:"):
        assert part in message, message
    assert done.error["exit_code"] == code
    assert "Traceback" not in done.stderr


def _assert_nothing_delivered(output: Path) -> None:
    assert not (output / "report.json").exists()
    assert not (output / "export").exists()


def test_a_wrong_key(run: Run, squares: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("train: {presett: fast}\n")
    done = run("train", str(config), "--data", str(squares), "--output", str(tmp_path / "run"))
    _assert_refused(done, 78, "train.presett", "Did you mean 'preset'?")


def test_a_misspelt_backbone(run: Run, squares: Path, tmp_path: Path) -> None:
    arguments = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w", "model.backbone=mobilnet_v2")
    _assert_refused(run(*arguments), 78, "'mobilnet_v2'", "Did you mean 'mobilenet_v2'?")
    _assert_nothing_delivered(tmp_path / "run")
    checked = run("check", "--no-data", "--set", "model.backbone=mobilnet_v2")
    _assert_refused(checked, 78, "'mobilnet_v2'")


def test_no_data_and_no_output(run: Run) -> None:
    _assert_refused(run("train"), 2, "data.uri is not set", "--data URI")


def test_an_unknown_option_is_a_usage_error(run: Run) -> None:
    done = run("train", "--nonsense")
    assert done.code == 2
    assert "--nonsense" in done.stderr


def test_a_missing_folder(run: Run, tmp_path: Path) -> None:
    done = run(*train_arguments(str(tmp_path / "nowhere"), str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 66, "nowhere", "data.uri")
    _assert_nothing_delivered(tmp_path / "run")


def test_a_missing_bucket(run: Run, store: ObjectStore, tmp_path: Path) -> None:
    done = run(*train_arguments("gs://nowhere/data", str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 66, "gs://nowhere")


def test_no_permission(run: Run, store: ObjectStore, tmp_path: Path) -> None:
    store.put("bucket", "data/a/1.jpg", b"x")

    def forbid(method: str, target: str, headers: object) -> Fault | None:
        return Status(403)

    store.fault = forbid
    done = run(*train_arguments("gs://bucket/data", str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 77, "gs://bucket")


def test_an_unknown_scheme(run: Run, tmp_path: Path) -> None:
    done = run(*train_arguments("ftp://host/data", str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 78, "ftp://host/data", "gs")


def test_a_folder_without_classes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / "data" / f"{number}.jpg")
    done = run(*train_arguments(str(tmp_path / "data"), str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 65, "class")
    _assert_nothing_delivered(tmp_path / "run")


def test_one_class(run: Run, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "green").symlink_to(squares / "green")
    done = run("check", *train_arguments(str(tmp_path / "data"), str(tmp_path / "run"), tmp_path / "w")[1:])
    _assert_refused(done, 65, "class")


def test_too_many_corrupt_files(run: Run, squares: Path, tmp_path: Path) -> None:
    arguments = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w", "data.max_bad=0")
    done = run(*arguments)
    _assert_refused(done, 65, "1 of 73 images", "red/broken.jpg", "not an image", "data.max_bad")
    _assert_nothing_delivered(tmp_path / "run")


def test_missing_weights(run: Run, squares: Path, tmp_path: Path) -> None:
    settings = "model.weights=/nowhere/w.weights.h5"
    done = run(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w", settings))
    _assert_refused(done, 66, "/nowhere/w.weights.h5", "model.weights")


def test_weights_of_another_architecture(run: Run, squares: Path, tmp_path: Path) -> None:
    settings = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w", "model.backbone=mobilenet_v2_035")
    _assert_refused(run(*settings), 78, "mobilenet_v2_035", "backbone.weights.h5")
    _assert_nothing_delivered(tmp_path / "run")


def test_weights_with_another_checksum(run: Run, squares: Path, tmp_path: Path) -> None:
    settings = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w", f"model.weights_sha256={'ab' * 32}")
    _assert_refused(run(*settings), 78, "ab" * 32)


def test_an_output_that_is_a_file(run: Run, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    done = run(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w"))
    _assert_refused(done, 78, str(tmp_path / "run"), "a file where a folder is expected")
    assert (tmp_path / "run").read_text() == "mine"


def test_no_space_is_worth_another_try(squares: Path, tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes every larger write fail, as a full disk does, without filling one.
    script = "ulimit -f 64; exec " + " ".join(
        f"'{part}'" for part in command(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "w"))
    )
    done = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert "space" in done.stderr
    _assert_nothing_delivered(tmp_path / "run")


def test_no_model_to_predict_with(run: Run, squares: Path, tmp_path: Path) -> None:
    _assert_refused(run("predict", str(tmp_path), str(squares)), 66, str(tmp_path), "export/1")


def test_no_images_to_predict(run: Run, undisturbed: Path, tmp_path: Path) -> None:
    _assert_refused(run("predict", str(undisturbed), str(tmp_path)), 66, "no image", str(tmp_path))


def test_predictions_in_an_unknown_form(run: Run, undisturbed: Path, squares: Path) -> None:
    done = run("predict", str(undisturbed), str(squares), "--output", "predictions.xlsx")
    _assert_refused(done, 2, "predictions.xlsx", ".csv")


def test_shared_memory_that_may_not_be_written(squares: Path, tmp_path: Path) -> None:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    mounted = ["unshare", *as_root, "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"]
    check = [sys.executable, "-m", "job", "check", "--data", str(squares), "--output", str(tmp_path / "run")]
    done = subprocess.run([*mounted, *check], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == AccessError.exit_code, done.stderr
    assert "no permission for /dev/shm" in done.stderr
