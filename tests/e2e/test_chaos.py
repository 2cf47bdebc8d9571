"""Killed at random moments behind a bucket that breaks, the job gives what it gives when left alone."""

from __future__ import annotations

import pytest

from tests.chaos import chaos

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("replicas", "kills"), [(1, 20), (2, 6)])
def test_twenty_kills_and_a_broken_bucket_change_nothing(
    replicas: int, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "set by the chaos, taken back here")
    outcome = chaos.run(kills=kills, replicas=replicas, seed=replicas, max_s=1200)
    print(outcome.table())
    assert outcome.differences == []
    assert outcome.num_kills >= kills // 2
    assert sum(outcome.counts["faults"].values()) > 10
    assert outcome.steps_of_result == outcome.steps_undisturbed > 30
    assert outcome.steps_lost_to_sigterm == 0
    # A kill costs at most the steps since the last checkpoint, every four of them.
    assert outcome.steps_lost <= 4 * outcome.num_kills


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_workers_killed_one_by_one_are_started_again_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "set by the chaos, taken back here")
    outcome = chaos.run(kills=6, replicas=1, workers=2, seed=2, max_s=1200)
    print(outcome.table())
    assert outcome.differences == []
    assert outcome.num_kills >= 3
    assert outcome.steps_of_result == outcome.steps_undisturbed > 30
    # Whoever loses the other one leaves with 75, and has lost as many steps.
    assert outcome.steps_lost <= 4 * (outcome.num_kills + outcome.codes[75])
