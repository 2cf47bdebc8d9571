"""Machines that keep watch on each other: real processes and connections, on loopback and over links that are cut."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.cluster import Cluster
from job.cluster.attendance import Attendance
from job.errors import TemporaryError
from tests.e2e.namespaces import network, why_not

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[3]
ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
"""Only the chief's host is called, on the port that it tells."""

MACHINE = """
import sys, threading
from job.cluster import Cluster
from job.cluster.attendance import Attendance
from job.errors import TemporaryError

def from_chief(mine):
    if worker == 0:
        print(mine, flush=True)
        return mine
    return sys.stdin.readline().strip()

worker, *addresses = int(sys.argv[1]), *sys.argv[2:]
attendance = Attendance(Cluster(len(addresses), worker, tuple(addresses)), from_chief)
print("there", flush=True)
sys.stdin.readline()
try:
    while True:
        attendance.demand()
        threading.Event().wait(0.1)
except TemporaryError as error:
    print(error.message, flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a machine; ends those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(worker: int, addresses: tuple[str, ...], told: str = "", *before: str) -> subprocess.Popen[str]:
        program = [*before, sys.executable, "-c", MACHINE, str(worker), *addresses]
        process = subprocess.Popen(program, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        if told:
            say(process, told)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def chief(num: int, others: Callable[[str], None]) -> Attendance:
    """Returns the chief's, in this process; `others` start while it tells them its port."""

    def tell(mine: str) -> str:
        others(mine)
        return mine

    return Attendance(Cluster(num, 0, ADDRESSES[:num]), tell)


def until_missed(attendance: Attendance) -> str:
    while True:
        try:
            attendance.demand()
        except TemporaryError as error:
            return error.message


def test_the_chief_misses_one_that_was_killed_and_names_it(start: Start) -> None:
    others: list[subprocess.Popen[str]] = []
    attendance = chief(3, lambda told: others.extend(start(worker, ADDRESSES, told) for worker in (1, 2)))
    assert [heard(other) for other in others] == ["there", "there"]
    with closing(attendance):
        attendance.demand()
        others[1].kill()
        others[1].wait()
        assert until_missed(attendance) == "Another worker of the 3 was lost: worker 2 (127.0.0.1:3)."


def test_the_others_miss_the_chief(start: Start) -> None:
    first = start(0, ADDRESSES[:2])
    other = start(1, ADDRESSES[:2], heard(first))
    assert (heard(first), heard(other)) == ("there", "there")
    first.kill()
    first.wait()
    say(other, "look")
    assert heard(other) == "Another worker of the 2 was lost: worker 0 (127.0.0.1:1)."


def test_a_stranger_who_calls_and_leaves_is_not_missed(start: Start) -> None:
    told: list[str] = []
    others: list[subprocess.Popen[str]] = []

    def begin(mine: str) -> None:
        told.append(mine)
        others.append(start(1, ADDRESSES[:2], mine))

    attendance = chief(2, begin)
    assert heard(others[0]) == "there"
    with closing(attendance):
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"0" * 32 + b" 1"):
            with socket.create_connection(("127.0.0.1", int(told[0].split()[0]))) as stranger:
                stranger.sendall(words)
            attendance.demand()
        attendance.demand()
        others[0].kill()
        others[0].wait()
        assert "worker 1" in until_missed(attendance)


def test_who_cannot_be_reached_is_not_missed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    attendance = Attendance(Cluster(2, 1, ADDRESSES[:2]), lambda mine: f"{port} token")
    assert attendance._others == {}
    attendance.demand()


@pytest.mark.timeout(200)
def test_machines_whose_link_is_cut_miss_each_other(start: Start) -> None:
    if reason := why_not():
        if os.environ.get("CI") and "FINETUNE_NO_CONTAINERS" not in os.environ:
            pytest.fail(f"no machines of their own: {reason}")
        pytest.skip(f"no machines of their own: {reason}")
    addresses = ("job-0.watch.test:1", "job-1.watch.test:1")
    with network("watch.test", 2) as net:
        first = start(0, addresses, "", *net.command(0))
        other = start(1, addresses, heard(first), *net.command(1))
        assert (heard(first), heard(other)) == ("there", "there")
        for process in (first, other):
            say(process, "look")
        net.cut(1)
        assert "worker 1 (job-1.watch.test:1)" in heard(first)
        assert "worker 0 (job-0.watch.test:1)" in heard(other)
