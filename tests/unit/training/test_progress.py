"""What a checkpoint holds beside the weights of the moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from job.training.progress import Progress, Trained


def _trained(name: str) -> Trained:
    return Trained(name, 3, {2: np.arange(4.0), 7: np.ones((2, 2), np.float32)}, np.eye(3, dtype=np.float32))


def test_it_reads_back_what_it_wrote(tmp_path: Path) -> None:
    progress = Progress(finished=[_trained("probe")], num_steps={"probe": 0})
    progress.begin("head")
    progress.step, progress.total_steps = 5, 5
    progress.best, progress.best_loss = _trained("head"), 0.1 + 0.2
    progress.save(tmp_path)
    loaded = Progress.load(tmp_path)
    assert (loaded.phase, loaded.step, loaded.total_steps, loaded.best_loss) == ("head", 5, 5, 0.1 + 0.2)
    assert [one.name for one in loaded.finished] == ["probe"]
    assert loaded.best is not None
    for mine, theirs in ((progress.best, loaded.best), (progress.finished[0], loaded.finished[0])):
        assert mine is not None
        assert mine.step == theirs.step
        assert mine.weights.keys() == theirs.weights.keys()
        assert all(np.array_equal(mine.weights[key], theirs.weights[key]) for key in mine.weights)
        assert np.array_equal(mine.val_logits, theirs.val_logits)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    Progress(finished=[_trained("probe")]).save(tmp_path)
    with np.load(tmp_path / "progress.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_the_end_of_a_phase_keeps_its_best_moment() -> None:
    progress = Progress()
    progress.begin("head")
    progress.step, progress.best = 9, _trained("head")
    progress.end()
    assert progress.has("head")
    assert not progress.has("finetune")
    assert (progress.phase, progress.step, progress.num_steps) == ("", 0, {"head": 9})


def test_a_phase_that_is_under_way_goes_on() -> None:
    progress = Progress()
    progress.begin("head")
    progress.step = 4
    progress.begin("head")
    assert progress.step == 4
    progress.begin("finetune")
    assert progress.step == 0
