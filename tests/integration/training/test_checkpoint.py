"""Checkpoints: whole or not there, N of them, here or fetched from the output."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.storage import Store, at
from job.storage.local import LocalStore
from job.training.checkpoint import MARKER, Checkpoints, state_of
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


def trained(*, seed: int = 0, num_steps: int = 0, is_float16: bool = False) -> tuple[Any, Any]:
    """Returns (net, its optimizer) after some steps with dropout."""
    net = tiny.net(dropout=0.5, seed=seed)
    step, optimizer = tiny.train_step(net, tiny.phase(ema=0.9), is_float16=is_float16)
    for number in range(num_steps):
        step(tiny.feed(*tiny.data()).batch(number))
    return net, optimizer


@pytest.mark.parametrize("is_float16", [False, True])
def test_everything_a_step_changes_comes_back(is_float16: bool, tmp_path: Path) -> None:
    net, optimizer = trained(num_steps=3, is_float16=is_float16)
    if is_float16:
        optimizer.dynamic_scale.assign(512.0)
    other, other_optimizer = trained(seed=9, num_steps=1, is_float16=is_float16)
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(3), state_of(net, optimizer))
        checkpoints.wait()
        latest = checkpoints.fetch(checkpoints.newest())
        checkpoints.restore(latest, state_of(other, other_optimizer))
    for one, another in zip(
        [*net.variables, *optimizer.variables], [*other.variables, *other_optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), another.numpy(), err_msg=one.path)
    dropout = next(layer for layer in other.layers if hasattr(layer, "seed_generator"))
    assert dropout.seed_generator.state.numpy()[1] == 3
    if is_float16:
        assert float(other_optimizer.dynamic_scale.numpy()) == 512.0
        other_optimizer = other_optimizer.inner_optimizer
    assert int(other_optimizer.iterations.numpy()) == 3
    assert any("average" in variable.path for variable in other_optimizer.variables)
    assert Progress.load(latest).total_steps == 3


def test_a_checkpoint_of_another_net_is_refused(tmp_path: Path) -> None:
    net, optimizer = trained()
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(3), None)
        checkpoints.wait()
        latest = checkpoints.fetch(checkpoints.newest())
        with pytest.raises(FileNotFoundError, match="state"):
            checkpoints.restore(latest, state_of(net, optimizer))


def test_the_newest_n_are_kept_here_and_at_the_output(tmp_path: Path) -> None:
    with open_at(tmp_path, keep=2) as checkpoints:
        for step in (3, 9, 10, 100):
            checkpoints.save(progress(step), None)
            checkpoints.wait()
    for root in (tmp_path / "run", tmp_path / "out"):
        assert sorted(path.name for path in (root / "checkpoints").iterdir() if any(path.iterdir())) == [
            "00000010-1-0",
            "00000100-1-0",
        ]
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.newest() == "00000100-1-0"


def test_the_end_of_a_phase_is_newer_than_its_last_step(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(12, 2), None)
        checkpoints.save(progress(12, 1), None)
        newest = checkpoints.newest()
    assert newest == "00000012-2-0"


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
        checkpoints.save(progress(1), state_of(net, optimizer))
        checkpoints.wait()
        uploads = [name for event, name in store.events if event == "upload"]
        assert uploads[-1] == MARKER
        folder = tmp_path / "out/checkpoints/00000001-1-0"
        assert json.loads((folder / MARKER).read_text()) == {
            "files": {name: (folder / name).stat().st_size for name in ("progress.json", "progress.npz", "state.npz")}
        }
        checkpoints.save(progress(2), None)
    deletes = [name for event, name in store.events if event == "delete"]
    assert deletes[0] == MARKER
    assert sorted(deletes) == sorted(uploads)


def test_a_folder_without_its_marker_is_no_checkpoint(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.newest() == ""
        for step in (1, 2):
            checkpoints.save(progress(step), None)
    for root in ("run", "out"):
        (tmp_path / root / "checkpoints" / "00000002-1-0" / MARKER).unlink()
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.newest() == "00000001-1-0"


@pytest.mark.parametrize("remains", ["nothing", "half a checkpoint"])
def test_a_checkpoint_that_is_only_at_the_output_is_fetched(remains: str, tmp_path: Path) -> None:
    net, optimizer = trained(num_steps=2)
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(2), state_of(net, optimizer))
    local = tmp_path / "run" / "checkpoints" / "00000002-1-0"
    shutil.rmtree(tmp_path / "run")
    if remains != "nothing":
        local.mkdir(parents=True)
        (local / "progress.json").write_text("{")
    other, other_optimizer = trained(seed=9)
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.fetch(checkpoints.newest()) == local
        checkpoints.restore(local, state_of(other, other_optimizer))
    np.testing.assert_array_equal(net.variables[0].numpy(), other.variables[0].numpy())
    assert Progress.load(local).total_steps == 2


def test_what_is_newer_here_than_at_the_output_wins_and_is_copied(tmp_path: Path) -> None:
    with open_at(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(progress(step), None)
    copied = tmp_path / "out" / "checkpoints" / "00000002-1-0"
    shutil.rmtree(copied)
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.newest() == "00000002-1-0"
    assert (copied / MARKER).is_file()


def test_while_the_output_is_away_training_goes_on_and_the_newest_is_copied_afterwards(tmp_path: Path) -> None:
    store = Away(tmp_path / "out")
    told: list[str] = []
    with open_at(tmp_path, store, keep=1, on_error=told.append) as checkpoints:
        for step in (1, 2, 3):
            # The copy of the first one hangs; these return all the same.
            checkpoints.save(progress(step), None)
        checkpoints._written()
        assert checkpoints.newest() == "00000003-1-0"
        assert not list((tmp_path / "out").iterdir())
        store.is_back.set()
    assert told == []
    copied = sorted(path.parent.name for path in (tmp_path / "out/checkpoints").glob(f"*/{MARKER}"))
    assert copied == ["00000003-1-0"]


def test_a_disk_that_is_full_ends_the_next_save_with_the_reason_and_leaves_nothing_whole(tmp_path: Path) -> None:
    # A limit on the size of files is what a full disk is to a single write.
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from job.errors import TemporaryError\n"
        "from job.storage import at\n"
        "from job.training.checkpoint import Checkpoints\n"
        "from job.training.progress import Progress, Trained\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / 'out').mkdir()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "large = Progress([Trained('probe', 0, {0: np.zeros(100_000, np.float32)}, np.zeros((2, 3), np.float32))])\n"
        "with Checkpoints(folder, at(str(folder / 'out')), keep=2, writes=True, on_error=print) as saved:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "    saved.save(large, None)\n"
        "    try: saved.wait()\n"
        "    except TemporaryError as error: print('told:', error.message)\n"
        "    assert saved.newest() == ''\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    saved.save(large, None)\n"
        "    saved.wait()\n"
        "    print('then:', saved.newest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told, then = done.stdout.splitlines()
    assert told.startswith("told: the disk is full while writing")
    assert then == "then: 00000000-1-0"


class Away(LocalStore):
    """A folder that answers no write before it is back."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), root)
        self.is_back = threading.Event()

    def upload(self, path: Path, name: str, **kwargs: Any) -> Any:
        self.is_back.wait()
        return super().upload(path, name, **kwargs)


def test_a_worker_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    with open_at(tmp_path, writes=False) as checkpoints:
        checkpoints.save(progress(2), None)
        assert checkpoints.newest() == ""
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "out").iterdir())


def test_a_copy_that_fails_is_told_and_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    told: list[str] = []
    with open_at(tmp_path, on_error=told.append) as checkpoints:
        checkpoints.save(progress(2), None)
    assert (tmp_path / "run" / "checkpoints" / "00000002-1-0" / MARKER).is_file()
    (message,) = told
    assert message.startswith("The checkpoint 00000002-1-0 is kept on this machine only")


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    net, optimizer = trained()
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(progress(2), state_of(net, optimizer))
    names = {path.name for path in (tmp_path / "run" / "checkpoints" / "00000002-1-0").iterdir()}
    assert names == {"state.npz", "progress.npz", "progress.json", MARKER}
