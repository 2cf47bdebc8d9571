"""Checkpoints: whole or not there, N of them, here or fetched from the output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.storage import Store, at
from job.storage.local import LocalStore
from job.training.checkpoint import MARKER, Checkpoints, trackable
from job.training.progress import Progress, Trained
from tests.integration.training import tiny


def progress(total_steps: int, num_finished: int = 1) -> Progress:
    logits = np.zeros((2, 3), np.float32)
    finished = [Trained(f"phase-{number}", 0, {}, logits) for number in range(num_finished)]
    return Progress(finished, "head", total_steps, total_steps)


def open_at(folder: Path, store: Store | None = None, **changes: Any) -> Checkpoints:
    settings: dict[str, Any] = {"keep": 2, "writes": True, "on_error": pytest.fail}
    if not (folder / "out").exists():
        (folder / "out").mkdir()
    return Checkpoints(folder / "run", store or at(str(folder / "out")), **{**settings, **changes})


def trained(*, seed: int = 0, num_steps: int = 0) -> tuple[Any, Any]:
    """Returns (net, its optimizer) after some steps with dropout."""
    net = tiny.net(dropout=0.5, seed=seed)
    step, optimizer = tiny.train_step(net, tiny.phase(ema=0.9))
    for number in range(num_steps):
        step(tiny.feed(*tiny.data()).batch(number))
    return net, optimizer


def test_everything_a_step_changes_comes_back(tmp_path: Path) -> None:
    net, optimizer = trained(num_steps=3)
    other, other_optimizer = trained(seed=9, num_steps=1)
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(3), trackable(net, optimizer))
        checkpoints.wait()
        latest = checkpoints.latest()
        assert latest is not None
        checkpoints.restore(latest, trackable(other, other_optimizer))
    for one, another in zip(
        [*net.variables, *optimizer.variables], [*other.variables, *other_optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), another.numpy(), err_msg=one.path)
    dropout = next(layer for layer in other.layers if hasattr(layer, "seed_generator"))
    assert dropout.seed_generator.state.numpy()[1] == 3
    assert int(other_optimizer.iterations.numpy()) == 3
    assert Progress.load(latest).total_steps == 3


def test_a_checkpoint_of_another_net_is_refused(tmp_path: Path) -> None:
    net, optimizer = trained()
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(3), None)
        checkpoints.wait()
        latest = checkpoints.latest()
        assert latest is not None
        with pytest.raises(Exception, match=r"state|[Nn]o such file|not find"):
            checkpoints.restore(latest, trackable(net, optimizer))


def test_the_newest_n_are_kept_here_and_at_the_output(tmp_path: Path) -> None:
    with open_at(tmp_path, keep=2) as checkpoints:
        for step in (3, 9, 10, 100):
            checkpoints.save(progress(step), None)
    for root in (tmp_path / "run", tmp_path / "out"):
        assert sorted(path.name for path in (root / "checkpoints").iterdir() if any(path.iterdir())) == [
            "00000010-1",
            "00000100-1",
        ]
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.latest() == tmp_path / "run" / "checkpoints" / "00000100-1"


def test_the_end_of_a_phase_is_newer_than_its_last_step(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(12, 2), None)
        checkpoints.save(progress(12, 1), None)
        latest = checkpoints.latest()
    assert latest is not None
    assert latest.name == "00000012-2"


class Recording(LocalStore):
    """A folder that remembers the order in which files came and went."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), root)
        self.events: list[tuple[str, str]] = []

    def upload(self, path: Path, name: str, **kwargs: Any) -> Any:
        self.events.append(("upload", name.rsplit("/", 1)[-1]))
        return super().upload(path, name, **kwargs)

    def delete(self, name: str, **kwargs: Any) -> Any:
        self.events.append(("delete", name.rsplit("/", 1)[-1]))
        return super().delete(name, **kwargs)


def test_the_marker_comes_last_and_goes_first(tmp_path: Path) -> None:
    store = Recording(tmp_path / "out")
    net, optimizer = trained()
    with open_at(tmp_path, store, keep=1) as checkpoints:
        checkpoints.save(progress(1), trackable(net, optimizer))
        checkpoints.wait()
        uploads = [name for event, name in store.events if event == "upload"]
        assert uploads[-1] == MARKER
        assert len(uploads) >= 5
        assert json.loads((tmp_path / "out/checkpoints/00000001-1" / MARKER).read_text()) == {
            "files": sorted(uploads[:-1])
        }
        checkpoints.save(progress(2), None)
    deletes = [name for event, name in store.events if event == "delete"]
    assert deletes[0] == MARKER
    assert sorted(deletes) == sorted(uploads)


def test_a_folder_without_its_marker_is_no_checkpoint(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 2):
            checkpoints.save(progress(step), None)
    for root in ("run", "out"):
        (tmp_path / root / "checkpoints" / "00000002-1" / MARKER).unlink()
    with open_at(tmp_path) as checkpoints:
        latest = checkpoints.latest()
        assert latest is not None
        assert latest.name == "00000001-1"


@pytest.mark.parametrize("remains", ["nothing", "half a checkpoint"])
def test_a_checkpoint_that_is_only_at_the_output_is_fetched(remains: str, tmp_path: Path) -> None:
    net, optimizer = trained(num_steps=2)
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(2), trackable(net, optimizer))
    local = tmp_path / "run" / "checkpoints" / "00000002-1"
    shutil.rmtree(tmp_path / "run")
    if remains != "nothing":
        local.mkdir(parents=True)
        (local / "progress.json").write_text("{")
    other, other_optimizer = trained(seed=9)
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.latest() == local
        checkpoints.restore(local, trackable(other, other_optimizer))
    np.testing.assert_array_equal(net.variables[0].numpy(), other.variables[0].numpy())
    assert Progress.load(local).total_steps == 2


def test_what_is_newer_here_than_at_the_output_wins(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(progress(step), None)
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "00000002-1")
    with open_at(tmp_path) as checkpoints:
        latest = checkpoints.latest()
    assert latest is not None
    assert latest.name == "00000002-1"


def test_a_worker_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    with open_at(tmp_path, writes=False) as checkpoints:
        checkpoints.save(progress(2), None)
        assert checkpoints.latest() is None
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "out").iterdir())


def test_a_copy_that_fails_is_told_and_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    told: list[str] = []
    with open_at(tmp_path, on_error=told.append) as checkpoints:
        checkpoints.save(progress(2), None)
    assert (tmp_path / "run" / "checkpoints" / "00000002-1" / MARKER).is_file()
    (message,) = told
    assert message.startswith("The checkpoint 00000002-1 is kept locally only: ")


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    net, optimizer = trained()
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(2), trackable(net, optimizer))
    names = {path.name for path in (tmp_path / "run" / "checkpoints" / "00000002-1").iterdir()}
    assert names == {"state.index", "state.data-00000-of-00001", "progress.npz", "progress.json", MARKER}
