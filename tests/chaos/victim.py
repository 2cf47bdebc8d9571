"""Runs a command of the job in this process and sends it a real signal at an exact moment.

    python -m tests.chaos.victim '{"signal": 9, "after": 17}' train --data … --output …
    python -m tests.chaos.victim '{"signal": 15, "at": "finetune", "log": "events.jsonl"}' train …

A moment is an event: a stage begins, a bar moves, a step is trained, something at the output or in a bucket is read
or written (by any thread). `after` counts events from the start; `at` names the first of a stage. Every event is one
line of the log, written before the signal, so that what was done twice can be counted.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any


class Moments:
    """Counts events and sends the signal when its moment has come."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._count = 0
        self._lock = threading.Lock()
        self._log = os.open(plan.get("log", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, kind: str, name: str, **facts: Any) -> None:
        with self._lock:
            # A pull looks at every object again, which is no work.
            self._count += (kind, name) != ("bar", "pull")
            os.write(self._log, (json.dumps({"kind": kind, "name": name, **facts}) + "\n").encode())
            is_now = self._count == self._plan.get("after") or (kind == "stage" and name == self._plan.get("at"))
            if is_now:
                os.write(self._log, (json.dumps({"kind": "signal", "name": str(self._plan["signal"])}) + "\n").encode())
                os.kill(os.getpid(), self._plan["signal"])


def before(owner: Any, method: str, tell: Callable[..., None]) -> None:
    """Has `tell` called with the arguments of a method before each call of it."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def told(*args: Any, **kwargs: Any) -> Any:
        tell(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, method, told)


def behind(owner: Any, method: str, tell: Callable[..., None]) -> None:
    """As `before`, for a method that makes steps, when these are at their end: a stop gives up what is only begun."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def told(*args: Any, **kwargs: Any) -> Generator[Any, None, Any]:
        made = yield from original(*args, **kwargs)
        tell(*args, **kwargs)
        return made

    setattr(owner, method, told)


def watch(moments: Moments) -> None:
    from job import quiet
    from job.console import _JsonBar
    from job.storage import at
    from job.storage.store import Stepwise
    from job.timings import Timings

    before(quiet, "import_tensorflow", lambda: moments("stage", "start"))
    before(Timings, "stage", lambda self, name, **_: moments("stage", name))
    before(_JsonBar, "update", lambda self, done, total, **_: moments("bar", self._stage, done=done, total=total))
    for scheme in ("gs://bucket", "/tmp"):
        store = type(at(scheme))
        if issubclass(store, Stepwise):  # then all of it goes by steps
            behind(store, "downloading", lambda self, info, to: moments("download", info.name))
        else:
            before(store, "download", lambda self, info, to: moments("download", info.name))
        before(store, "upload", lambda self, source, name: moments("upload", name))
        before(store, "write", lambda self, name, data, **_: moments("write", name))
        before(store, "delete", lambda self, name: moments("delete", name))


def watch_training(moments: Moments) -> None:
    """Watches what can only be imported with TensorFlow."""
    from job.export import saved_model
    from job.training.step import Placed, TrainStep

    def stepped(self: TrainStep, placed: Placed, **_: Any) -> None:
        for batch in placed.batches:
            moments("step", str(len(self._variables)), images=batch.indices.tolist())

    before(TrainStep, "run", stepped)
    before(saved_model, "write", lambda *_, to, **__: moments("export", to.name))


def main() -> None:
    moments = Moments(json.loads(sys.argv[1]))
    del sys.argv[1]
    watch(moments)
    from job import quiet

    importing = quiet.import_tensorflow

    def imported() -> None:
        importing()
        watch_training(moments)

    quiet.import_tensorflow = imported
    from job.cli import main as command

    command()


if __name__ == "__main__":
    main()
