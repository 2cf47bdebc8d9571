"""What the job says while it runs: bars for a person, one JSON line an event for a machine.

On a terminal, stages draw progress bars with rates and the time left. Elsewhere every event is one
line of JSON on stdout with Cloud Logging's `severity`, `message` and `time`, so that a cluster's log
viewer can filter by stage and field.
Source: https://cloud.google.com/logging/docs/structured-logging
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import IO, Any, Protocol, Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from job.masking import masked, masked_tree

QUIET_S = 10.0
"""Seconds between two progress lines of one stage in a log."""


class Pace:
    """How fast a stage goes, from its first report on.

    What was done before that took its time to start up, or was done by an earlier run that this one continues.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks = [(clock(), 0)]

    def report(self, done: int) -> None:
        """Notes that `done` units are finished by now."""
        self._marks = [*self._marks[:2], (self._clock(), done)]

    def per_second(self) -> float:
        """Returns units a second; 0 where nothing can be said yet."""
        if len(self._marks) == 1:
            return 0.0
        (first_s, first), (last_s, last) = self._marks[-2:]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def eta_s(self, total: int) -> float | None:
        """Returns the seconds left of `total` units, or None where nothing can be said yet."""
        rate = self.per_second()
        return round((total - self._marks[-1][1]) / rate, 1) if rate > 0 else None


class Console(Protocol):
    """Where the job's events go."""

    def info(self, message: str, **fields: Any) -> None:
        """Says what happened; `fields` are for machines."""
        ...

    def warn(self, message: str, **fields: Any) -> None:
        """Says what was unexpected and how the job goes on."""
        ...

    def error(self, message: str, **fields: Any) -> None:
        """Says why the job ends."""
        ...

    def bar(self, stage: str, *, unit: str) -> Bar:
        """Returns a context that shows how far a stage is."""
        ...


class Bar(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, done: int, total: int, **fields: Any) -> None:
        """Shows that `done` of `total` units are finished; `fields` are figures such as the loss."""
        ...


def console(stream: IO[str] | None = None, *, clock: Callable[[], float] = time.monotonic) -> Console:
    """Returns the console that fits the stream: bars on a terminal, JSON lines otherwise."""
    stream = stream or sys.stdout
    return TerminalConsole(stream, clock=clock) if stream.isatty() else JsonConsole(stream, clock=clock)


class JsonConsole:
    """One JSON object a line."""

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    def info(self, message: str, **fields: Any) -> None:
        self._line("INFO", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._line("WARNING", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._line("ERROR", message, fields)

    def bar(self, stage: str, *, unit: str) -> Bar:
        return _JsonBar(self, stage, unit, self._clock)

    def _line(self, severity: str, message: str, fields: dict[str, Any]) -> None:
        event = {"severity": severity, "message": message, "time": datetime.now(UTC).isoformat(), **fields}
        text = json.dumps(masked_tree(event), default=lambda value: masked(str(value)), ensure_ascii=False)
        print(text, file=self._stream, flush=True)


class _JsonBar:
    """Says at most once every QUIET_S how far a stage is, and at its end how far it came and how long it took."""

    def __init__(self, console: JsonConsole, stage: str, unit: str, clock: Callable[[], float]) -> None:
        self._console, self._stage, self._unit, self._clock = console, stage, unit, clock
        self._start_s = self._said_s = clock()
        self._pace = Pace(clock)
        self._done = self._total = 0
        self._fields: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._total:
            seconds = self._clock() - self._start_s
            self._say(f"in {seconds:.1f} s", seconds=round(seconds, 1))

    def update(self, done: int, total: int, **fields: Any) -> None:
        self._done, self._total, self._fields = done, total, fields
        self._pace.report(done)
        if self._clock() - self._said_s >= QUIET_S:
            self._said_s = self._clock()
            rate, eta_s = self._pace.per_second(), self._pace.eta_s(total)
            left = "" if eta_s is None else f", {eta_s:.0f} s left"
            self._say(f"{rate:.1f} {self._unit}/s{left}", per_second=round(rate, 1), eta_s=eta_s)

    def _say(self, pace: str, **figures: Any) -> None:
        self._console.info(
            f"{self._stage}: {self._done}/{self._total} {self._unit}, {pace}",
            stage=self._stage,
            done=self._done,
            total=self._total,
            **figures,
            **self._fields,
        )


class _CountColumn(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate: float = task.fields["rate"]
        return Text(f"{rate:,.0f} {task.fields['unit']}/s" if rate else "")


class _TimeColumn(ProgressColumn):
    """The time left. What it took so far where there is no telling, and once the stage is over: patience may end it."""

    def render(self, task: Task) -> Text:
        eta_s: float | None = task.fields["eta_s"]
        if eta_s is None or task.stop_time is not None:
            return Text(_hours(task.elapsed or 0), style="progress.elapsed")
        return Text(f"{_hours(eta_s)} left", style="progress.remaining")


def _hours(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class TerminalConsole:
    """Lines and bars for a person."""

    def __init__(self, stream: IO[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rich = RichConsole(file=stream, highlight=False)
        self._clock = clock

    def info(self, message: str, **fields: Any) -> None:
        self._print(message)

    def warn(self, message: str, **fields: Any) -> None:
        self._print(f"warning {message}", label="warning", style="yellow")

    def error(self, message: str, **fields: Any) -> None:
        self._print(f"error {message}", label="error", style="red")

    def _print(self, message: str, *, label: str = "", style: str = "") -> None:
        """Prints lines broken between words, what follows indented; a long URI stays whole, to be copied."""
        broken = [
            part
            for line in masked(message).splitlines()
            for part in textwrap.wrap(
                line,
                self._rich.width,
                subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2),
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
        ]
        text = Text("\n".join(broken))
        text.stylize(style, 0, len(label))
        self._rich.print(text, soft_wrap=True)

    def bar(self, stage: str, *, unit: str) -> Bar:
        return _TerminalBar(self._rich, stage, unit, self._clock)


class _TerminalBar:
    def __init__(self, rich: RichConsole, stage: str, unit: str, clock: Callable[[], float]) -> None:
        # On a narrow terminal the bar alone gives way: figures broken over two lines cannot be read.
        whole = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            _CountColumn(table_column=whole),
            _RateColumn(table_column=whole),
            _TimeColumn(table_column=whole),
            TextColumn("{task.fields[figures]}"),
            console=rich,
            get_time=clock,
        )
        self._pace = Pace(clock)
        self._task = self._progress.add_task(stage, total=None, unit=unit, rate=0.0, eta_s=None, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop_task(self._task)
        # A stage that had nothing to do leaves no line.
        self._progress.live.transient = self._progress.tasks[0].total is None
        self._progress.stop()

    def update(self, done: int, total: int, **fields: Any) -> None:
        self._pace.report(done)
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            rate=self._pace.per_second(),
            eta_s=self._pace.eta_s(total),
            figures="  ".join(f"{name} {value:.4g}" for name, value in fields.items() if isinstance(value, float)),
        )
