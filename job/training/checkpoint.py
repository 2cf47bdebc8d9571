"""Checkpoints: written and copied to the output in the background, whole when the marker is there.

checkpoints/<total steps>-<finished phases>-<retries>/
state.npz        weights, optimizer with its averages and loss scale, dropout seeds
progress.*       phase, step, best so far, finished phases
complete.json    the marker, written last: {"files": {name: size in bytes}}

Training waits only while the values are copied to host memory. One checkpoint is written at a time, one is
copied at a time, and what is copied is always the newest: a bucket that is away for a while holds nothing up.
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

import numpy as np

from job import rundir
from job.errors import JobError
from job.storage import Store, disk, transfer
from job.training.progress import Progress

MARKER = "complete.json"
_STATE = "state.npz"

State = dict[str, Any]
"""Name → Keras variable of everything a step changes."""


def state_of(net: Any, optimizer: Any) -> State:
    """Returns everything that a step changes.

    Keras keeps the seed state of Dropout in none of its own formats, so it is listed by hand.
    """
    seeds = [layer.seed_generator.state for layer in net.layers if hasattr(layer, "seed_generator")]
    parts = {"variable": net.variables, "optimizer": optimizer.variables, "seed": seeds}
    return {f"{part}/{number}": one for part, variables in parts.items() for number, one in enumerate(variables)}


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Local run folder.
        store: The output.
        keep: Newest ones kept, locally and at the output.
        writes: False where this worker only reads.
        on_error: Told of a copy that failed; training goes on and the next one is copied again.
    """

    def __init__(self, folder: Path, store: Store, *, keep: int, writes: bool, on_error: Callable[[str], None]) -> None:
        self._folder = folder / rundir.CHECKPOINTS
        self._store = store
        self._keep = keep
        self._writes = writes
        self._on_error = on_error
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-write")
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-copy")
        self._writing: Future[None] | None = None
        self._copying: Future[None] | None = None
        self._copied = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            self._copier.shutdown()

    def newest(self) -> str:
        """Returns the name of the newest whole checkpoint, here or at the output; "" where there is none.

        One that is only here, because a kill came before it was copied, is copied now.
        """
        remote = self._remote()
        name = max({*self._local(), *remote}, default="")
        if self._writes and name and name not in remote:
            self._copying = self._copier.submit(self._copy_newest)
        return name

    def fetch(self, name: str) -> Path:
        """Returns the folder of a whole checkpoint, copied from the output where it is only there."""
        folder = self._folder / name
        if name not in self._local():
            shutil.rmtree(folder, ignore_errors=True)
            names = [info.name for info in self._store.list(f"{rundir.CHECKPOINTS}/{name}/")]
            transfer.pull(self._store, self._folder.parent, names=names)
        return folder

    def restore(self, folder: Path, state: State) -> None:
        """Sets every variable of `state` from a checkpoint taken in the same phase."""
        with np.load(folder / _STATE, allow_pickle=False) as arrays:
            assert set(arrays.files) == set(state), f"{folder} is of another network or optimizer"
            for name, variable in state.items():
                variable.assign(arrays[name])

    @property
    def is_writing(self) -> bool:
        """Whether the last checkpoint is still on its way to the local disk."""
        return self._writing is not None and not self._writing.done()

    def save(self, progress: Progress, state: State | None) -> None:
        """Writes a checkpoint in the background, after the one under way.

        Raises:
            JobError: When the one before could not be written: the disk is full, or may not be written to.
        """
        if not self._writes:
            return
        self._written()
        arrays = None if state is None else {name: variable.numpy() for name, variable in state.items()}
        self._writing = self._writer.submit(self._write, progress.snapshot(), arrays)

    def wait(self) -> None:
        """Returns when the last checkpoint is on disk and the newest one at the output, or told to `on_error`."""
        self._written()
        if self._copying is not None:
            self._copying.result()

    def _written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, progress: Progress, arrays: dict[str, np.ndarray] | None) -> None:
        folder = self._folder / progress.name
        temporary = self._folder / f".{folder.name}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            with disk.border(str(folder), self._folder), disk.filling(folder, _num_bytes(progress, arrays)):
                temporary.mkdir(parents=True)
                if arrays is not None:
                    np.savez(temporary / _STATE, allow_pickle=False, **arrays)
                progress.save(temporary)
                sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
                (temporary / MARKER).write_text(json.dumps({"files": sizes}))
                for path in temporary.iterdir():
                    disk.flush(path)
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(temporary, folder)
                disk.flush(self._folder)
        finally:
            # Half of a checkpoint on a full disk would only keep it full.
            shutil.rmtree(temporary, ignore_errors=True)
        self._copying = self._copier.submit(self._copy_newest)

    def _copy_newest(self) -> None:
        """Copies the newest whole checkpoint to the output unless it is there, and removes what is too many."""
        name = max(self._local())
        if name == self._copied:
            return
        try:
            transfer.push(self._folder / name, self._store, prefix=f"{rundir.CHECKPOINTS}/{name}", last=(MARKER,))
            self._copied = name
            for old in sorted(self._remote())[: -self._keep]:
                self._remove(old)
        except JobError as error:
            self._on_error(f"The checkpoint {name} is kept on this machine only, in {self._folder}: {error}")
        for old in sorted(self._local())[: -self._keep]:
            (self._folder / old / MARKER).unlink()
            shutil.rmtree(self._folder / old, ignore_errors=True)

    def _local(self) -> set[str]:
        return {folder.name for folder in self._folder.glob("[0-9]*") if _is_whole(folder)}

    def _remote(self) -> set[str]:
        infos = self._store.list(f"{rundir.CHECKPOINTS}/")
        return {info.name.split("/")[1] for info in infos if info.name.endswith(f"/{MARKER}")}

    def _remove(self, name: str) -> None:
        prefix = f"{rundir.CHECKPOINTS}/{name}/"
        # The marker goes first: what is left of it is no checkpoint any more.
        self._store.delete(prefix + MARKER)
        for info in list(self._store.list(prefix)):
            self._store.delete(info.name)


def _num_bytes(progress: Progress, arrays: dict[str, np.ndarray] | None) -> int:
    """Returns about how large a checkpoint will be."""
    trained = [*progress.finished, *([progress.best] if progress.best else [])]
    held = [array for one in trained for array in (one.val_logits, *one.weights.values())]
    return sum(array.nbytes for array in [*held, *(arrays or {}).values()])


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MARKER).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, ValueError):
        return False
