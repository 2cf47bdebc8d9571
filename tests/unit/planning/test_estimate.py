"""The arithmetic of a plan: what more devices shorten, what they add, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job.planning import table
from job.planning.estimate import Pace, Plan, StageEstimate

STEP = StageEstimate(
    "finetune", device_s=100.0, num_images=3200, num_steps=100, step_host_s=0.2, gradient_bytes=50_000_000
)
PLAN = Plan(
    devices="1 x GPU",
    measured_on=1,
    batch=32,
    stages=[StageEstimate("survey", host_s=60.0, num_images=320, is_done=True), STEP],
    num_checkpoints=3,
    checkpoint_bytes=2_000_000,
    disk_bytes={"features": 3_000_000_000, "export": 12_000_000},
)


def test_the_first_time_counts_once() -> None:
    assert Pace(5.0, 0.5).of(11) == 10.0
    assert Pace(5.0, 0.5).of(0) == 0.0


def test_more_devices_share_the_images_not_the_step_and_exchange_gradients() -> None:
    assert STEP.seconds(1, measured_on=1) == 100.0
    # 20 s of the steps stay, 80 s are shared, and 100 steps move 2 * 3 / 4 of 50 MB at 10 GB/s.
    assert STEP.seconds(4, measured_on=1) == pytest.approx(20 + 80 / 4 + 100 * 1.5 * 50e6 / 10e9)
    assert STEP.seconds(4, measured_on=1, link_bytes_s=1e9) == pytest.approx(20 + 80 / 4 + 100 * 1.5 * 50e6 / 1e9)


def test_what_was_measured_on_several_devices_is_given_back_for_as_many() -> None:
    assert STEP.seconds(4, measured_on=4) == 100.0
    assert STEP.seconds(1, measured_on=4) == pytest.approx(20 + 80 * 4)


def test_the_host_is_not_shared() -> None:
    assert StageEstimate("export", host_s=7.0).seconds(8, measured_on=1) == 7.0


def test_the_cost_is_of_all_devices_for_all_seconds() -> None:
    assert PLAN.seconds(1) == 160.0
    assert PLAN.seconds(1, remaining=True) == 100.0
    assert PLAN.cost(1, 3.6) == pytest.approx(0.16)
    assert PLAN.cost(4, 3.6) == pytest.approx(PLAN.seconds(4) / 3600 * 4 * 3.6)


def test_the_table_shows_every_stage_total_cost_disk_and_what_is_done() -> None:
    lines = table.text(PLAN, price_per_hour=3.6).splitlines()
    assert "1 x GPU" in lines[0]
    assert lines[2].split() == ["stage", "images", "images/s", "memory", "on", "1", "on", "2", "on", "4", "on", "8"]
    assert lines[3].split()[:5] == ["survey", "*", "320", "5", "60.0"]
    assert lines[4].split()[:4] == ["finetune", "3200", "32", "100.0"]
    assert lines[5].split()[:2] == ["total", "2:40"]
    assert lines[6].split()[:2] == ["cost", "0.16"]
    rest = "\n".join(lines[7:])
    assert "has survey behind it and takes 1:40" in rest
    assert "Disk: 3.0 GB (features 3.0 GB, export 12.0 MB)" in rest
    assert "Checkpoints: 3 of at most 2.0 MB" in rest


def test_the_measured_number_of_devices_has_its_column() -> None:
    three = replace(PLAN, measured_on=3, devices="3 x GPU")
    assert "on 3" in table.text(three, price_per_hour=None)
    assert set(three.to_dict(None)["seconds"]) == {"1", "2", "3", "4", "8"}
    assert three.to_dict(None)["cost"] is None
