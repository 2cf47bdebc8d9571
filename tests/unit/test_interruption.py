"""A signal sets a flag; a watchdog leaves before the kill; the stage decides where to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from job.errors import LeaseHeldError, StoppedError
from job.interruption import Stop


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Puts the process's own handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "grace"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_only_sets_the_flag(number: signal.Signals) -> None:
    stop = Stop(grace_s=1000)
    stop.install()
    assert not stop.requested
    stop.check("survey")
    signal.raise_signal(number)
    assert stop.requested
    stop.finish()


def test_a_stage_leaves_with_143_and_says_what_to_do() -> None:
    stop = Stop(grace_s=1000)
    stop.request()
    with pytest.raises(StoppedError, match="during pack") as caught:
        stop.check("pack")
    assert caught.value.exit_code == 143
    assert "same command again" in caught.value.next_step
    assert stop.may_write
    stop.finish()


def test_the_watchdog_leaves_with_143_when_the_grace_period_is_over() -> None:
    left: list[int] = []
    is_left = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        is_left.set()

    Stop(grace_s=0, leave=leave).request()
    assert is_left.wait(10)
    assert left == [143]


def test_the_watchdog_leaves_though_the_main_thread_never_comes_back_to_python() -> None:
    program = (
        "import hashlib\n"
        "from job.interruption import Stop\n"
        "Stop(grace_s=3.0).install()\n"
        "print('ready', flush=True)\n"
        # Minutes in C without the interpreter's lock, as in a graph step: no handler of Python's runs meanwhile.
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_a_second_signal_starts_no_second_watchdog_and_a_finished_job_needs_none() -> None:
    left: list[int] = []
    stop = Stop(grace_s=1000, leave=left.append)
    before = len(watchdogs())
    stop.request()
    stop.request()
    assert len(watchdogs()) == before + 1
    stop.finish()
    for thread in watchdogs()[before:]:
        thread.join(10)
    assert left == []


def test_a_job_that_lost_its_place_stops_with_the_reason_and_writes_no_more() -> None:
    stop = Stop(grace_s=1000)
    stop.give_up(LeaseHeldError("another job took over"))
    assert not stop.may_write
    with pytest.raises(LeaseHeldError, match="another job took over"):
        stop.check("head")
    stop.finish()
