"""What a checkpoint remembers beside the weights of the moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from job.training.progress import Progress, Trained


def trained(name: str, step: int = 0) -> Trained:
    rng = np.random.default_rng(step)
    weights = {3: rng.normal(size=(2, 4)).astype(np.float32), 11: rng.normal(size=4).astype(np.float32)}
    return Trained(name, step, weights, rng.normal(size=(5, 4)).astype(np.float32))


def assert_equal(one: Trained | None, other: Trained | None) -> None:
    assert one is not None
    assert other is not None
    assert (one.name, one.step, set(one.weights)) == (other.name, other.step, set(other.weights))
    np.testing.assert_array_equal(one.val_logits, other.val_logits)
    for position, value in one.weights.items():
        np.testing.assert_array_equal(value, other.weights[position])


def test_progress_survives_its_files(tmp_path: Path) -> None:
    progress = Progress([trained("probe"), trained("head", 7)], "finetune", 5, 29, trained("finetune", 4), 0.5)
    progress.num_steps = {"probe": 0, "head": 24}
    progress.save(tmp_path)
    again = Progress.load(tmp_path)
    for one, other in zip([*progress.finished, progress.best], [*again.finished, again.best], strict=True):
        assert_equal(one, other)
    assert (again.phase, again.step, again.total_steps, again.best_loss) == ("finetune", 5, 29, 0.5)
    assert again.num_steps == progress.num_steps


@pytest.mark.parametrize("progress", [Progress(), Progress([trained("probe")], total_steps=3)])
def test_progress_between_phases_survives_its_files(progress: Progress, tmp_path: Path) -> None:
    progress.save(tmp_path)
    again = Progress.load(tmp_path)
    assert (again.phase, again.best, again.best_loss) == ("", None, float("inf"))
    assert [one.name for one in again.finished] == [one.name for one in progress.finished]


def test_more_than_ten_finished_candidates_keep_their_order(tmp_path: Path) -> None:
    names = [f"candidate-{number}" for number in range(12)]
    Progress([trained(name) for name in names]).save(tmp_path)
    assert [one.name for one in Progress.load(tmp_path).finished] == names


def test_pickled_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    odd = trained("probe")
    odd.val_logits = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="[Oo]bject arrays cannot be saved"):
        Progress([odd]).save(tmp_path)
    Progress([trained("probe")]).save(tmp_path)
    arrays = {"finished/0/val_logits": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "progress.npz", allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Progress.load(tmp_path)


def test_a_phase_goes_on_where_it_is_and_ends_with_its_best_moment() -> None:
    progress = Progress([trained("probe")])
    progress.begin("head")
    progress.step, progress.best, progress.best_loss = 9, trained("head", 6), 0.3
    progress.begin("head")
    assert progress.step == 9
    progress.end()
    assert progress.has("head")
    assert not progress.has("finetune")
    assert progress.num_steps == {"head": 9}
    assert progress.finished[-1].step == 6
    progress.begin("finetune")
    assert (progress.step, progress.best, progress.best_loss) == (0, None, float("inf"))
