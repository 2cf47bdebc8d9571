"""Checkpoints: written locally, copied to the output in the background, whole when the marker is there.

checkpoints/<total steps>-<finished phases>/
state.*          weights, optimizer, dropout seeds (tf.train.Checkpoint)
progress.*       phase, step, best so far, finished phases
complete.json    the marker, written last
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from job import rundir
from job.errors import JobError
from job.storage import Store, transfer
from job.training.progress import Progress

MARKER = "complete.json"
_STATE = "state"


def trackable(net: Any, optimizer: Any) -> Any:
    """Returns the tf.train.Checkpoint of everything a step changes.

    Keras keeps the seed state of Dropout in none of its own formats, so it is listed by hand.
    """
    seeds = [layer.seed_generator.state.value for layer in net.layers if hasattr(layer, "seed_generator")]
    return tf.train.Checkpoint(
        variables=[variable.value for variable in net.variables],
        optimizer=[variable.value for variable in optimizer.variables],
        seeds=seeds,
    )


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Local run folder.
        store: The output; None where this worker does not write.
        keep: Newest ones kept, locally and at the output.
        on_error: Told of a copy that failed; training goes on and the next one is copied again.
    """

    def __init__(self, folder: Path, store: Store, *, keep: int, writes: bool, on_error: Callable[[str], None]) -> None:
        self._folder = folder / rundir.CHECKPOINTS
        self._store = store
        self._keep = keep
        self._writes = writes
        self._on_error = on_error
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._copy: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()
        self._pool.shutdown()

    def latest(self) -> Path | None:
        """Returns the newest whole checkpoint's folder, fetched from the output where it is only there."""
        local = {folder.name for folder in self._folder.glob("*") if (folder / MARKER).is_file()}
        prefix = f"{rundir.CHECKPOINTS}/"
        remote = {info.name.split("/")[1] for info in self._store.list(prefix) if info.name.endswith(f"/{MARKER}")}
        if not local | remote:
            return None
        name = max(local | remote)
        folder = self._folder / name
        if name not in local:
            shutil.rmtree(folder, ignore_errors=True)
            names = [info.name for info in self._store.list(f"{prefix}{name}/")]
            transfer.pull(self._store, self._folder.parent, names=names)
        return folder

    def restore(self, folder: Path, state: Any) -> None:
        """Sets every variable of `state` from a checkpoint taken in the same phase."""
        state.read(str(folder / _STATE)).assert_existing_objects_matched()

    def save(self, progress: Progress, state: Any | None) -> None:
        """Writes a checkpoint; the copy to the output goes on in the background, one at a time."""
        if not self._writes:
            return
        self.wait()
        # The number of finished phases tells the end of a phase from its last step.
        folder = self._folder / f"{progress.total_steps:08d}-{len(progress.finished)}"
        temporary = self._folder / f".{folder.name}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        if state is not None:
            state.write(str(temporary / _STATE))
        progress.save(temporary)
        names = sorted(path.name for path in temporary.iterdir())
        (temporary / MARKER).write_text(json.dumps({"files": names}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        self._copy = self._pool.submit(self._publish, folder)

    def wait(self) -> None:
        """Returns when the copy under way has ended."""
        if self._copy is not None:
            self._copy.result()
            self._copy = None

    def _publish(self, folder: Path) -> None:
        try:
            prefix = f"{rundir.CHECKPOINTS}/{folder.name}"
            transfer.push(folder, self._store, prefix=prefix, last=(MARKER,))
            whole = sorted(path for path in self._folder.glob("*") if (path / MARKER).is_file())
            for old in whole[: -self._keep]:
                self._remove(old)
        except JobError as error:
            self._on_error(f"The checkpoint {folder.name} is kept locally only: {error}")

    def _remove(self, folder: Path) -> None:
        prefix = f"{rundir.CHECKPOINTS}/{folder.name}/"
        # The marker goes first: what is left of it is no checkpoint any more.
        self._store.delete(prefix + MARKER)
        for info in list(self._store.list(prefix)):
            self._store.delete(info.name)
        shutil.rmtree(folder, ignore_errors=True)
