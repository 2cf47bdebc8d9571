"""Each kind of defect changes what it is said to change, on the part only."""

from __future__ import annotations

import numpy as np
import pytest

from job.demo.defects import DEFECTS, inflict
from job.demo.parts import Scene, scene


def _before_and_after(name: str, index: int) -> tuple[Scene, Scene]:
    before, after = (scene(np.random.default_rng([3, index]), 96) for _ in range(2))
    inflict(name, after, np.random.default_rng([4, index]))
    return before, after


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("index", range(8))
def test_a_defect_changes_the_part_and_not_the_bench(name: str, index: int) -> None:
    before, after = _before_and_after(name, index)
    changed = np.abs(before.surface.albedo - after.surface.albedo).max(axis=2)
    changed += np.abs(before.surface.height - after.surface.height)
    assert changed.max() > 0.01
    assert changed[before.inside > 0.03].max(initial=0) == 0


@pytest.mark.parametrize("index", range(8))
def test_a_dent_leaves_the_colour_alone(index: int) -> None:
    before, after = _before_and_after("dent", index)
    assert np.array_equal(before.surface.albedo, after.surface.albedo)
    assert not np.array_equal(before.surface.height, after.surface.height)


@pytest.mark.parametrize("index", range(8))
def test_a_stain_leaves_the_relief_alone(index: int) -> None:
    before, after = _before_and_after("stain", index)
    assert np.array_equal(before.surface.height, after.surface.height)
    assert not np.array_equal(before.surface.albedo, after.surface.albedo)


@pytest.mark.parametrize("index", range(8))
def test_the_inside_of_a_hole_is_dark(index: int) -> None:
    before, after = _before_and_after("hole", index)
    darkest = after.surface.albedo.max(axis=2)[before.inside < 0].min()
    assert darkest < 0.17
