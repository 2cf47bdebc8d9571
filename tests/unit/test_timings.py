"""Seconds and images of each stage, nested ones counted once."""

from __future__ import annotations

import pytest

from job.timings import Timings


def test_seconds_of_a_nested_stage_count_for_it_alone() -> None:
    now = [100.0]
    timings = Timings(lambda: now[0])
    with timings.stage("finetune", num_images=32):
        now[0] += 2
        with timings.stage("features", num_images=8):
            now[0] += 5
        now[0] += 1
    assert timings.seconds == {"finetune": 3.0, "features": 5.0}
    assert timings.num_images == {"finetune": 32, "features": 8}


def test_a_stage_that_comes_twice_adds_up_in_the_order_of_its_first_time() -> None:
    now = [0.0]
    timings = Timings(lambda: now[0])
    for name in ("pull", "survey", "pull"):
        with timings.stage(name, num_images=1):
            now[0] += 4
    assert list(timings.seconds.items()) == [("pull", 8.0), ("survey", 4.0)]
    assert timings.num_images["pull"] == 2


def test_a_stage_that_fails_is_counted_too() -> None:
    now = [0.0]
    timings = Timings(lambda: now[0])
    with timings.stage("run"):
        with pytest.raises(KeyError), timings.stage("push"):
            now[0] += 3
            raise KeyError
        now[0] += 1
    assert timings.seconds == {"run": 1.0, "push": 3.0}
