"""Bars on a terminal, one JSON line an event elsewhere."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest

from job.console import QUIET_S, JsonConsole, Pace, TerminalConsole, console
from job.errors import TemporaryError
from job.status import EVERY_S, Status
from job.timings import Timings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_console_fits_its_stream() -> None:
    assert isinstance(console(Terminal()), TerminalConsole)
    assert isinstance(console(io.StringIO()), JsonConsole)


def test_an_event_is_one_json_line_with_severity_and_message() -> None:
    stream = io.StringIO()
    out = JsonConsole(stream)
    out.info("größer\nals 3", images=3)
    out.warn("careful")
    out.error("over")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["severity"] for event in events] == ["INFO", "WARNING", "ERROR"]
    assert events[0]["message"] == "größer\nals 3"
    assert events[0]["images"] == 3


def test_a_log_hears_of_progress_now_and_then_and_of_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with JsonConsole(stream, clock=clock).bar("pull", unit="objects") as bar:
        bar.update(1, 100)
        clock.now = QUIET_S
        bar.update(50, 100, loss=0.5)
        bar.update(51, 100)
        clock.now = 2 * QUIET_S - 0.1
        bar.update(100, 100)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["done"] for event in events] == [50, 100]
    assert events[0]["eta_s"] == pytest.approx(50 / 4.9, abs=0.1)
    assert events[0]["per_second"] == pytest.approx(4.9)
    assert events[1]["seconds"] == pytest.approx(2 * QUIET_S - 0.1)
    assert events[0]["loss"] == 0.5
    assert events[0]["message"] == "pull: 50/100 objects, 4.9 objects/s, 10 s left"
    assert events[1]["message"] == "pull: 100/100 objects, in 19.9 s"


def test_a_stage_that_ends_early_shows_where_it_stopped() -> None:
    stream, clock = io.StringIO(), Clock()
    with JsonConsole(stream, clock=clock).bar("head", unit="images") as bar:
        bar.update(640, 4000)
        clock.now = 2.0
    (event,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert event["message"] == "head: 640/4000 images, in 2.0 s"
    assert "eta_s" not in event


def test_what_an_earlier_run_did_is_not_taken_for_speed() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.per_second() == 0.0
    assert pace.eta_s(1000) is None
    clock.now = 1.0
    pace.report(900)
    clock.now = 3.0
    pace.report(920)
    assert pace.per_second() == 10.0
    assert pace.eta_s(1000) == 8.0


def test_a_failing_stage_says_nothing_of_an_end() -> None:
    stream = io.StringIO()

    def pull() -> None:
        with JsonConsole(stream).bar("pull", unit="objects") as bar:
            bar.update(1, 2)
            raise TemporaryError("the bucket is away")

    with pytest.raises(TemporaryError):
        pull()
    assert stream.getvalue() == ""


def test_a_stage_without_progress_says_nothing() -> None:
    stream = io.StringIO()
    with JsonConsole(stream).bar("features", unit="images"):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_shows_bars_and_plain_lines() -> None:
    stream = Terminal()
    out = TerminalConsole(stream)
    out.info("[not markup]")
    out.warn("careful")
    out.error("over")
    with out.bar("survey", unit="images") as bar:
        bar.update(3, 3, loss=0.25)
    text = stream.getvalue()
    for part in ("[not markup]", "careful", "over", "survey", "3/3", "loss 0.25"):
        assert part in text


class Screen:
    """What a terminal shows after what was written to it: the few control sequences that progress bars use."""

    def __init__(self, text: str) -> None:
        self.lines = [""]
        row = 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\r\n\x1b]+", text):
            if part == "\n":
                row += 1
                self.lines += [""] * (row + 1 - len(self.lines))
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                self.lines[row] = ""
            elif not part.startswith("\x1b") and part != "\r":
                self.lines[row] += part  # after \r and an erased line, as after a line's end


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_stage_that_had_nothing_to_do_leaves_no_line_on_a_terminal(terminal: Terminal) -> None:
    out = TerminalConsole(terminal)
    with out.bar("views", unit="images"):
        pass
    out.info("next")
    assert Screen(terminal.getvalue()).lines == ["next", ""]


def test_what_is_said_while_a_bar_runs_stands_above_it_whole(terminal: Terminal) -> None:
    out = TerminalConsole(terminal)
    with out.bar("finetune", unit="images") as bar:
        bar.update(1280, 128_000, loss=1.25)
        out.warn("The logs are copied later: " + "the bucket is away " * 4)
        bar.update(2560, 128_000, loss=1.0)
        out.warn("again")
    first, second, third, line, end = Screen(terminal.getvalue()).lines
    assert first.startswith("warning The logs")
    assert second.startswith("  ")
    assert third == "warning again"
    assert line.startswith("finetune ")
    assert end == ""


def test_the_figures_of_a_bar_stand_on_one_line_of_80_columns(terminal: Terminal) -> None:
    clock = Clock()
    with TerminalConsole(terminal, clock=clock).bar("finetune", unit="images") as bar:
        bar.update(0, 2_500_000, loss=1.2345)
        clock.now = 1000.0
        bar.update(1_250_000, 2_500_000, loss=1.2345)
        bar._progress.refresh()
        line = Screen(terminal.getvalue()).lines[-1]
    assert len(line.rstrip()) <= 80
    for part in ("finetune", "━", "1250000/2500000", "1,250 images/s", "0:16:40 left", "loss 1.234"):
        assert part in line


def test_a_stage_that_ends_early_shows_what_it_took_instead_of_what_is_left(terminal: Terminal) -> None:
    clock = Clock()
    with TerminalConsole(terminal, clock=clock).bar("head", unit="images") as bar:
        clock.now = 8.0
        bar.update(640, 4000)
    (line, _) = Screen(terminal.getvalue()).lines
    for part in ("640/4000", "80 images/s", "0:00:08"):
        assert part in line
    assert "left" not in line


def test_long_lines_break_between_words_and_leave_a_uri_whole(terminal: Terminal) -> None:
    uri = "gs://bucket/" + "a-long-name/" * 8
    TerminalConsole(terminal).info(f"  head: {'many words ' * 12}\n{uri}\n\nend")
    first, second, *rest = terminal.getvalue().splitlines()
    assert len(first) <= 80
    assert first.startswith("  head: many words")
    assert second.startswith("    ")
    assert rest == [uri, "", "end"]


def test_status_is_written_at_most_every_so_often_and_never_stops_the_job() -> None:
    written: list[dict[str, object]] = []
    stream, clock = io.StringIO(), Clock()
    status = Status(JsonConsole(stream), written.append, clock=clock)
    with status.bar("head", unit="images") as bar:
        bar.update(1, 10)
        bar.update(2, 10)
        status.settle()
        clock.now += EVERY_S
        bar.update(5, 10)
        status.settle()
    assert [one["done"] for one in written] == [1, 5]
    assert written[1]["eta_s"] == pytest.approx(EVERY_S * 5 / 4, abs=0.1)

    def away(facts: dict[str, object]) -> None:
        raise TemporaryError("the bucket is away")

    status = Status(JsonConsole(stream), away, clock=clock)
    status.note({"stage": "head"})
    status.settle()
    assert "the bucket is away" in stream.getvalue()


def test_a_status_that_cannot_be_written_for_minutes_holds_nothing_up() -> None:
    clock, is_back, written = Clock(), threading.Event(), []

    def slow(facts: dict[str, object]) -> None:
        assert is_back.wait(60)
        written.append(facts)

    status = Status(JsonConsole(io.StringIO()), slow, clock=clock)
    for done in range(5):
        status.note({"done": done})
        clock.now += EVERY_S
    assert written == [], "the training went on while the first one was being written"
    is_back.set()
    status.settle()
    status.note({"done": 5})
    status.end({"state": "done"})
    status.settle()
    assert [one["done"] for one in written[:-1]] in ([0], [0, 5])
    assert (written[-1]["state"], written[-1]["done"]) == ("done", 5)


def test_a_nested_stage_counts_for_itself_alone() -> None:
    clock = Clock()
    timings = Timings(clock)
    with timings.stage("outer", num_images=4):
        clock.now += 1
        with timings.stage("inner"):
            clock.now += 10
        clock.now += 2
    with timings.stage("outer", num_images=2):
        clock.now += 1
    assert timings.seconds == {"outer": 4, "inner": 10}
    assert timings.num_images == {"outer": 6, "inner": 0}
