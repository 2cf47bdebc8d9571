"""The whole job on a local folder: what it leaves behind, and what the same command does again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.e2e.tiny import CLASSES, Done, train_arguments

Run = Callable[..., Done]


def test_a_run_leaves_everything_it_promises(undisturbed: Path) -> None:
    names = {str(path.relative_to(undisturbed)) for path in undisturbed.rglob("*") if path.is_file()}
    promised = {
        "config.yaml",
        "dataset.csv",
        "status.json",
        "report.json",
        "report.md",
        "report/index.html",
        "model_card.md",
        "export/1/saved_model.pb",
        "export/1/assets.extra/prove.py",
    }
    assert promised <= names
    assert "lease.json" not in names
    assert any(name.startswith("logs/events.out.tfevents") for name in names)
    assert any(name.startswith("checkpoints/") and name.endswith("/complete.json") for name in names)


def test_the_bad_image_is_named_and_the_job_goes_on(undisturbed: Path) -> None:
    rows = list(csv.DictReader((undisturbed / "dataset.csv").read_text().splitlines()))
    assert len(rows) == 24 * 3 + 1
    bad = [row for row in rows if row["verdict"] != "ok"]
    assert [row["uri"] for row in bad] == ["red/broken.jpg"]
    report = json.loads((undisturbed / "report.json").read_text())
    assert report["data"]["num_bad"] == 1


def test_the_report_says_what_won_how_sure_it_is_and_how_long_it_took(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert {one["name"] for one in report["winner"]["standings"]} == {"probe", "head", "finetune"}
    assert len(report["winner"]["steps"]) == 2
    assert report["test"]["scores"]["accuracy"] > 0.5
    low, high = report["test"]["intervals"]["accuracy"]
    assert low <= report["test"]["scores"]["accuracy"] <= high
    assert {"survey", "features", "probe", "head", "finetune", "evaluate", "export", "prove", "push"} <= {
        stage["name"] for stage in report["stages"]
    }
    text = (undisturbed / "report.md").read_text()
    assert report["winner"]["reason"].split(":")[0] in text


def test_plain_tensorflow_classifies_a_file_with_the_export(undisturbed: Path, squares: Path) -> None:
    model = tf.saved_model.load(str(undisturbed / "export" / "1"))
    files = [next((squares / name).glob("*-01.jpg")).read_bytes() for name in sorted(CLASSES)]
    answer = model.signatures["serving_default"](tf.constant(files))
    assert [name.decode() for name in answer["classes"].numpy()] == sorted(CLASSES)
    np.testing.assert_allclose(answer["scores"].numpy().sum(axis=1), 1.0, atol=1e-5)


def test_the_curves_are_there_under_their_names(undisturbed: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(undisturbed / "logs"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    for phase in ("head", "finetune"):
        figures = ("loss", "accuracy", "gradient_norm", "learning_rate", "images_per_s", "input_wait")
        assert {f"{phase}/{name}" for name in (*figures, "val_loss", "val_accuracy")} <= tags
    assert {"config", "recipe", "test/confusion", "test/reliability", "test/accuracy"} <= tags
    assert {"test/per_class", "augmented"} <= tags
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_the_same_command_again_only_reads_the_report(run: Run, undisturbed: Path, squares: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    done = run(*train_arguments(str(squares), str(undisturbed), undisturbed.parent / "work"))
    assert done.code == 0, done.stderr
    assert len(done.events) == 1
    assert done.events[0]["message"].startswith("Done:")
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_another_config_on_the_same_output_is_refused(run: Run, undisturbed: Path, squares: Path) -> None:
    done = run(*train_arguments(str(squares), str(undisturbed), undisturbed.parent / "work", "train.seed=7"))
    assert done.code == 78
    assert "train.seed: 0 there, 7 now" in done.error["message"]


def test_too_low_an_accuracy_fails_the_job_and_keeps_the_report(
    run: Run, undisturbed: Path, squares: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(undisturbed, output)
    report = json.loads((output / "report.json").read_text())
    report["test"]["scores"]["accuracy"] = 0.5
    (output / "report.json").write_text(json.dumps(report))
    enough = run(*train_arguments(str(squares), str(output), tmp_path / "work", "require.accuracy=0.5"))
    assert enough.code == 0, enough.stderr
    too_little = run(*train_arguments(str(squares), str(output), tmp_path / "work", "require.accuracy=0.51"))
    assert too_little.code == 82
    for part in ("0.5", "require.accuracy", "0.51", str(output), "Next:"):
        assert part in too_little.error["message"]
    assert (output / "report.json").is_file()


def test_predict_needs_nothing_but_the_model(run: Run, undisturbed: Path, squares: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    done = run("predict", str(undisturbed), str(squares / "red"), "--output", str(output), "--top", "2")
    assert done.code == 0, done.stderr
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert len(rows) == 25
    errors = [row for row in rows if row["error"]]
    assert [row["uri"].rsplit("/", 1)[-1] for row in errors] == ["broken.jpg"]
    assert sum(row["class_1"] == "red" for row in rows) > 18


def test_evaluate_scores_the_export(run: Run, undisturbed: Path, squares: Path) -> None:
    import subprocess

    from tests.e2e.tiny import REPOSITORY, command

    done = subprocess.run(
        command("evaluate", str(undisturbed / "export" / "1"), str(squares), "--json"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.strip().splitlines()[-1])
    assert scores["num_images"] == 72
    assert scores["num_unreadable"] == 1
    assert scores["accuracy"] > 0.6


def test_check_surveys_and_trains_nothing(run: Run, squares: Path, tmp_path: Path) -> None:
    arguments = train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "work")
    done = run("check", *arguments[1:])
    assert done.code == 0, done.stderr
    assert "ready" in done.events[-1]["message"]
    assert not (tmp_path / "run" / "report.json").exists()
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("preset", ["fast"])
def test_the_fast_preset_is_the_probe_alone(preset: str, run: Run, squares: Path, tmp_path: Path) -> None:
    done = run(*train_arguments(str(squares), str(tmp_path / "run"), tmp_path / "work", f"train.preset={preset}"))
    assert done.code == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [one["name"] for one in report["winner"]["standings"]] == ["probe"]
    shown = {event["stage"]: event for event in done.events if "stage" in event}
    assert {"survey", "features", "probe", "evaluate", "push"} <= shown.keys()
    assert all(event["done"] == event["total"] > 0 for event in shown.values())
