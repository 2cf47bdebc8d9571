"""What TensorBoard finds, under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from job.config import TelemetryConfig
from job.training.telemetry import Meter, Telemetry


def events(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return found


def values(found: Any, tag: str) -> list[Any]:
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in found.Tensors(tag)]


def test_scalars_are_curves_over_the_steps(tmp_path: Path) -> None:
    with Telemetry(tmp_path, TelemetryConfig()) as telemetry:
        for step in (10, 20):
            telemetry.scalars({"head/loss": 1.0 / step, "head/val_accuracy": 0.5}, step=step)
    found = events(tmp_path)
    assert values(found, "head/loss") == [(10, np.float32(0.1)), (20, np.float32(0.05))]
    assert [step for step, _ in values(found, "head/val_accuracy")] == [10, 20]
    assert found.SummaryMetadata("head/loss").plugin_data.plugin_name == "scalars"


def test_curves_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    with Telemetry(tmp_path, TelemetryConfig()) as telemetry:
        telemetry.scalars({"head/loss": 1.0}, step=1)
        assert values(events(tmp_path), "head/loss") == [(1, np.float32(1.0))]


def test_text_and_images_have_their_own_pages(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    with Telemetry(tmp_path, TelemetryConfig()) as telemetry:
        telemetry.text("config", "```yaml\na: 1\n```")
        telemetry.images("augmented", pictures)
    found = events(tmp_path)
    assert found.SummaryMetadata("config").plugin_data.plugin_name == "text"
    assert values(found, "config")[0][1] == b"```yaml\na: 1\n```"
    assert found.SummaryMetadata("augmented").plugin_data.plugin_name == "images"
    width, height, *encoded = values(found, "augmented")[0][1]
    assert (width, height, len(encoded)) == (b"8", b"8", 16)
    np.testing.assert_array_equal(tf.io.decode_png(encoded[3]), pictures[3])


def test_hyperparameters_stand_beside_the_scores_they_led_to(tmp_path: Path) -> None:
    settings = {"backbone": "resnet50", "batch": 32, "finetune.learning_rate": 1e-4, "xla": False, "views": None}
    with Telemetry(tmp_path, TelemetryConfig()) as telemetry:
        telemetry.hyperparameters(settings, {"test/accuracy": 0.75})
    found = events(tmp_path)
    metadata = found.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert metadata.plugin_name == "hparams"
    hparams = plugin_data_pb2.HParamsPluginData.FromString(metadata.content).session_start_info.hparams
    assert hparams["backbone"].string_value == "resnet50"
    assert hparams["batch"].number_value == 32
    assert hparams["finetune.learning_rate"].number_value == 1e-4
    assert hparams["xla"].bool_value is False
    assert hparams["views"].string_value == "None"
    assert values(found, "test/accuracy") == [(0, np.float32(0.75))]


def test_the_hparams_page_shows_the_scores_and_no_curves(tmp_path: Path) -> None:
    with Telemetry(tmp_path, TelemetryConfig()) as telemetry:
        telemetry.scalars({"finetune/loss": 0.5}, step=3)
        telemetry.hyperparameters({"backbone": "resnet50", "batch": 32}, {"test/accuracy": 0.75, "test/ece": 0.02})
    metadata = events(tmp_path).SummaryMetadata("_hparams_/experiment").plugin_data
    experiment = plugin_data_pb2.HParamsPluginData.FromString(metadata.content).experiment
    assert [info.name for info in experiment.hparam_infos] == ["backbone", "batch"]
    # The group stays empty: it is the one that is found in a log folder of a single run, too.
    assert [(info.name.group, info.name.tag) for info in experiment.metric_infos] == [
        ("", "test/accuracy"),
        ("", "test/ece"),
    ]


def test_a_worker_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    config = TelemetryConfig(profile_steps=(0, 1))
    with Telemetry(tmp_path / "logs", config, writes=False) as telemetry:
        telemetry.scalars({"head/loss": 1.0}, step=1)
        telemetry.text("config", "a")
        telemetry.images("augmented", np.zeros((1, 8, 8, 3), np.uint8))
        telemetry.hyperparameters({"batch": 1}, {"test/accuracy": 1.0})
        telemetry.profile(0)
    assert not (tmp_path / "logs").exists()


def test_points_come_every_so_many_steps(tmp_path: Path) -> None:
    with Telemetry(tmp_path, TelemetryConfig(every_steps=4)) as telemetry:
        assert [step for step in range(1, 13) if telemetry.is_due(step)] == [4, 8, 12]


@pytest.mark.parametrize("num_steps", [6, 3], ids=["past its end", "training ends first"])
def test_the_profiler_records_the_steps_asked_for(num_steps: int, tmp_path: Path) -> None:
    with Telemetry(tmp_path, TelemetryConfig(profile_steps=(1, 3))) as telemetry:
        for step in range(num_steps):
            telemetry.profile(step)
            with telemetry.marked(step):
                tf.linalg.matmul(tf.ones((8, 8)), tf.ones((8, 8)))
        is_ended = bool(list(tmp_path.rglob("*.xplane.pb")))
        assert is_ended == (num_steps > 4)
    (recorded,) = tmp_path.rglob("*.xplane.pb")
    assert b"step_num" in recorded.read_bytes(), "the marks of the steps"


def test_images_a_second_and_waiting_are_counted_since_the_last_reading() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    meter.step(30)
    meter.step(30)
    meter.waiting(1.0)
    now[0] = 4.0
    assert meter.read() == {"images_per_s": 15.0, "input_wait": 0.25}
    now[0] = 6.0
    assert meter.read() == {"images_per_s": 0.0, "input_wait": 0.0}
