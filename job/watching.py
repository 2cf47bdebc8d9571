"""`finetune tensorboard`: the real TensorBoard on the logs of a run, or of several, wherever they are.

Logs in a bucket are copied to this machine and refreshed: TensorBoard's own bucket clients know no emulator, check
nothing and ask for every file anew. Event files only grow, and TensorBoard holds them open: what is new is appended to
the file that it reads, as a file put in its place would not be noticed.
Source: tensorflow/tensorboard #158, #1225.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from job import rundir
from job.console import Console
from job.errors import InputMissingError, JobError, UsageError
from job.storage import Store, at, is_remote, local_path, transfer

_EVENTS = "tfevents"
_PROFILE = "/plugins/profile/"
"""Where TensorFlow's profiler and TensorBoard's plugin meet, below the folder of the event file."""


def _is_log(name: str) -> bool:
    return _EVENTS in name.rsplit("/", 1)[-1] or _PROFILE in f"/{name}"


class Copy:
    """The logs of a bucket, as files that TensorBoard can follow.

    Args:
        store: At a run's folder, its logs, or a folder of runs.
        folder: Made where it is missing; `logs_dir` is below it.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.logs_dir = folder / "logs"
        self.logs_dir.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._fetched = folder / "fetched"

    def refresh(self) -> int:
        """Brings what is new and returns the number of files that changed.

        Raises:
            InputMissingError: When nothing at all is there.
            JobError: What the store says.
        """
        infos = list(self._store.list())
        if not infos:
            raise InputMissingError(
                f"nothing is below {self._store.uri}/", next_step="Give the folder of a run: what was its --output."
            )
        names = [info.name for info in infos if _is_log(info.name)]
        if not names:
            return 0
        transfer.pull(self._store, self._fetched, names=names)
        return sum(self._grow(name) for name in names)

    def _grow(self, name: str) -> bool:
        source, target = self._fetched / name, self.logs_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        old, new = (target.read_bytes() if target.exists() else b""), source.read_bytes()
        if new == old:
            return False
        if new.startswith(old):
            with target.open("ab") as file:
                file.write(new[len(old) :])
        else:  # another file under the same name, which is none of the job's
            target.unlink()
            target.write_bytes(new)
        return True


def watch(uri: str, console: Console, *, host: str, port: int | None, every_s: float, waits: bool = False) -> None:
    """Serves the logs until SIGINT or SIGTERM.

    Args:
        uri: A run's folder, its logs, or a folder of runs.
        host: 0.0.0.0 lets other machines in: TensorBoard asks nobody for a password.
        port: None is the first free one from 6006 on.
        every_s: Seconds between two looks for what is new.
        waits: For the first run, where a bucket has nothing at `uri` yet.

    Raises:
        InputMissingError: When nothing is at `uri`.
        UsageError: When the port is taken.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="finetune-logs-") as scratch:
        logs_dir, refresh = _logs(uri, Path(scratch), waits=waits)
        url = serve(logs_dir, host=host, port=port, every_s=every_s)
        console.info(f"TensorBoard shows {uri} at {url}; Ctrl-C ends it.", url=url)
        is_away = False
        while not stopped.wait(every_s):
            try:
                refresh()
                is_away = False
            except JobError as error:  # shows what it has
                if not is_away:
                    console.warn(f"The logs are refreshed later: {error.message}")
                is_away = True


def _logs(uri: str, scratch: Path, *, waits: bool) -> tuple[Path, Callable[[], object]]:
    """Returns the folder to serve, filled, and what brings it up to date."""
    if is_remote(uri):
        copy = Copy(at(uri), scratch)
        try:
            copy.refresh()
        except InputMissingError:
            if not waits:
                raise
        return copy.logs_dir, copy.refresh
    path = local_path(uri)
    assert path is not None
    if not path.is_dir():
        raise InputMissingError(
            f"There is no folder {str(path)!r}.", next_step="Give the folder of a run: what was its --output."
        )
    # A run's other folders hold no logs; of a folder of runs, all are shown.
    is_run = (path / rundir.LOGS).is_dir() or (path / rundir.CONFIG).is_file()
    return (path / rundir.LOGS if is_run else path), lambda: None


def serve(logs_dir: Path, *, host: str, port: int | None, every_s: float) -> str:
    """Starts TensorBoard in threads of this process and returns its address."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorboard import default
    from tensorboard.program import TensorBoard, TensorBoardServerException

    server = TensorBoard(plugins=default.get_plugins())
    arguments = ["tensorboard", "--logdir", str(logs_dir), "--host", host]
    arguments += ["--reload_interval", str(max(1, int(every_s)))]
    # The data server is a process of its own that would outlive this one when it is killed.
    arguments += ["--load_fast", "false", "--reload_multifile", "true"]
    server.configure([*arguments, *(["--port", str(port)] if port is not None else [])])
    try:
        url: str = server.launch()
    except TensorBoardServerException as error:
        raise UsageError(f"TensorBoard does not start: {error}", next_step="Choose another --port.") from error
    return url.rstrip("/")
