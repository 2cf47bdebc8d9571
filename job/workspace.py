"""Where one run lives: its output, its local folder, its timings; whether it is new, unfinished or done.

A run is a folder, and re-running it is always safe: the same output with the same config resumes or, when
done, answers at once; with another config it is refused and the difference shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job import cluster as clusters
from job import config as configs
from job import rundir
from job.cluster import ALONE, Cluster
from job.config import Config
from job.console import Bar, Console
from job.errors import ConfigError, UsageError
from job.interruption import Stop
from job.masking import masked, masked_tree
from job.platforms import Platform
from job.status import Status
from job.storage import Store, at, local_path, transfer
from job.timings import Timings

_FREE_TO_CHANGE = ("work_dir", "output", "checkpoint.", "telemetry.", "require.", "train.start_timeout_s")
"""Settings that change nothing about the result, so that a run may go on under others."""


@dataclass
class Workspace:
    """One run.

    Attributes:
        config: With data.uri and output set.
        output: The run's folder, wherever it is.
        folder: Its local counterpart, with the same names.
        data_dir: Where a remote dataset is kept; shared by runs on the same data.
        cluster: The machines that train together; the chief alone writes to the output.
        is_run: Whether `status.json` is written; a check or an evaluation is no run.
        fetched: URI of a weights file → its local copy, once it was looked for.
        away_s: Seconds for which finished work is offered to an output that is away, before the job ends with 75.
    """

    config: Config
    platform: Platform
    console: Console
    stop: Stop
    output: Store
    folder: Path
    data_dir: Path
    cluster: Cluster = ALONE
    is_run: bool = True
    timings: Timings = field(default_factory=Timings)
    fetched: dict[str, Path] = field(default_factory=dict)
    away_s: float = 900.0

    def __post_init__(self) -> None:
        self.status = Status(self.console, self._write_status)

    @classmethod
    def open(
        cls, config: Config, platform: Platform, console: Console, stop: Stop, *, is_run: bool = True
    ) -> Workspace:
        """Returns the workspace of a config; creates nothing yet.

        Raises:
            UsageError: When neither the config nor the platform says where data or output are.
        """
        config = filled_in(config, platform)
        assert config.data.uri is not None
        assert config.output is not None
        root = work_root(config)
        machines = clusters.of(config.train.strategy, os.environ)
        # Two workers on one disk, as in a trial, stay out of each other's files.
        own = "" if machines.is_chief else f"-worker-{machines.worker}"
        return cls(
            config=config,
            platform=platform,
            console=console,
            stop=stop,
            output=at(config.output),
            folder=root / "runs" / f"{slug(config.output)}{own}",
            data_dir=root / "datasets" / slug(config.data.uri),
            cluster=machines,
            is_run=is_run,
        )

    @property
    def logs_dir(self) -> Path:
        return self.folder / rundir.LOGS

    @property
    def cache_dir(self) -> Path:
        """Of what can be computed again: packed pixels, features."""
        return self.folder / "cache"

    def bar(self, stage: str, *, unit: str) -> Bar:
        """Returns a progress bar that also keeps `status.json` current."""
        return self.status.bar(stage, unit=unit)

    def watched(self, bar: Bar, stage: str) -> Callable[[int, int], None]:
        """Returns a progress hook: shows how far a stage is, and leaves it when the job was asked to stop."""

        def hook(done: int, total: int) -> None:
            bar.update(done, total)
            self.stop.check(stage)

        return hook

    def finished_report(self) -> dict[str, Any] | None:
        """Returns the report of a run that is done, or None.

        Raises:
            ConfigError: When the output belongs to a run with another config. Shows the difference.
        """
        if self.output.stat(rundir.CONFIG) is not None:
            text = self.output.read(rundir.CONFIG).decode()
            name = f"{self.output.uri}/{rundir.CONFIG}"
            self._check_same(configs.validate(configs.parse(text, name=name), name=name))
        return self.report()

    def report(self) -> dict[str, Any] | None:
        """Returns the content of the done marker, or None where the run is not done."""
        if self.output.stat(rundir.DONE) is None:
            return None
        report: dict[str, Any] = json.loads(self.output.read(rundir.DONE))
        return report

    def begin(self, versions: dict[str, str]) -> None:
        """Saves the resolved config with a new run, the versions in its head; goes on with one that has it.

        What a new run finds in its local folder is left over from an output that is no more, and not taken up.
        """
        if self.output.stat(rundir.CONFIG) is not None:
            return
        for name in (rundir.CHECKPOINTS, rundir.LOGS, rundir.EXPORT):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (rundir.WEIGHTS, rundir.BATCH):
            self.output.delete(name)
        head = "".join(f"# {name}: {version}\n" for name, version in versions.items())
        self.write(rundir.CONFIG, head + configs.to_yaml(self.config))

    def write(self, name: str, text: str) -> None:
        """Writes a small file, locally and at the output; secrets are masked."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = masked(text)
        path.write_text(text, encoding="utf-8")
        self.output.write(name, text.encode())

    def publish(self, name: str, *, last: Sequence[str] = ()) -> None:
        """Copies a folder of the run to its output, the files `last` after all others."""
        with self.bar("push", unit="objects") as bar:
            progress = self.watched(bar, "push")
            transfer.push(self.folder / name, self.output, prefix=name, last=last, progress=progress)

    def _write_status(self, facts: dict[str, Any]) -> None:
        if self.is_run and self.cluster.is_chief:
            self.write(rundir.STATUS, json.dumps(facts))

    def _check_same(self, other: Config) -> None:
        # As they are saved: a URI that was signed anew names the same data.
        mine, theirs = (_flat(masked_tree(one.model_dump(mode="json"))) for one in (self.config, other))
        changed = [
            f"  {key}: {theirs.get(key)!r} there, {mine.get(key)!r} now"
            for key in sorted(mine | theirs)
            if mine.get(key) != theirs.get(key) and not key.startswith(_FREE_TO_CHANGE)
        ]
        if changed:
            raise ConfigError(
                f"{self.output.uri} belongs to a run with another config:\n" + "\n".join(changed),
                next_step="Choose another --output, or take the config back to what it was.",
            )


def filled_in(config: Config, platform: Platform) -> Config:
    """Returns the config with data and output from the platform where it leaves them open.

    Local paths are made absolute, so that the same run has the same name from any folder.
    """
    data_uri = config.data.uri or platform.data_uri
    output = config.output or platform.output_uri
    for what, key, uri in (("data", "data.uri", data_uri), ("output", "output", output)):
        if not uri:
            why = f" {platform.reasons[what]}" if what in platform.reasons else ""
            raise UsageError(
                f"The job does not know its {what}: {key} is not set and the platform ({platform.name}) names none."
                f"{why}",
                next_step=f"Give --{what} URI, or set {key} in the config: a path, gs://, s3:// or az://.",
            )
    assert data_uri is not None
    assert output is not None
    layout = config.data.layout
    if config.data.uri is None and layout == "auto":
        layout = platform.data_layout
    data = config.data.model_copy(update={"uri": absolute(platform.without_mount(data_uri)), "layout": layout})
    return config.model_copy(update={"data": data, "output": absolute(platform.without_mount(output))})


def absolute(uri: str) -> str:
    """Returns a plain absolute path for what lies on this machine, a URI as it is; neither ends in a slash."""
    path = local_path(uri)
    return uri.rstrip("/") if path is None else str(path.absolute())


def work_root(config: Config) -> Path:
    """Returns the folder for downloads and caches."""
    if config.work_dir:
        return Path(config.work_dir).expanduser().absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetune-job"
    except RuntimeError as error:  # a container's user may have no home
        raise UsageError(
            "There is no folder for downloads and caches: work_dir and XDG_CACHE_HOME are not set, and this user "
            "has no home.",
            next_step="Set work_dir in the config, or XDG_CACHE_HOME, to a folder with space.",
        ) from error


def slug(uri: str) -> str:
    """Returns a folder name for a URI: readable, without its secrets, and different for different URIs."""
    uri = masked(uri)
    tail = re.sub(r"[^A-Za-z0-9._-]+", "-", uri.rstrip("/").rsplit("/", 1)[-1])[:40] or "root"
    return f"{tail}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
