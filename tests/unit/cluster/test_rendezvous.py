"""Workers meet before TensorFlow starts: real processes on loopback addresses."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from job.cluster import ALONE, Cluster, rendezvous
from job.errors import ConfigError, StoppedError, TemporaryError

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[3]

WORKER = """
import sys
from job.cluster import Cluster
from job.cluster.rendezvous import meet
from job.errors import JobError

worker, timeout_s, *addresses = sys.argv[1:]
try:
    meet(Cluster(len(addresses), int(worker), tuple(addresses)), float(timeout_s),
         say=lambda line: print(line, flush=True))
except JobError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
print("start", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a worker process; ends those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(worker: int, addresses: list[str], *, timeout_s: float = 60) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", WORKER, str(worker), str(timeout_s), *addresses]
        started.append(subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def addresses(num: int, host: str = "127.0.0.1") -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"{host}:{one.getsockname()[1]}" for one in sockets]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def test_one_machine_meets_nobody() -> None:
    said: list[str] = []
    rendezvous.meet(ALONE, 1e-9, say=said.append)
    assert said == []


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_workers_start_together_in_whatever_order_they_come(start: Start, order: list[int]) -> None:
    where = addresses(3, "localhost")
    workers = [start(worker, where) for worker in order]
    results = [ended(worker) for worker in workers]
    assert [code for code, _ in results] == [0, 0, 0], results
    assert all(out.endswith("start\n") for _, out in results)


def test_nobody_starts_before_all_are_there(start: Start) -> None:
    where = addresses(3)
    chief, first = start(0, where), start(1, where)
    assert first.stdout is not None
    assert first.stdout.readline() == f"Waiting for worker 2 ({where[2]}) of 3 workers.\n"
    assert chief.poll() is None
    assert first.poll() is None
    assert [ended(each)[0] for each in (start(2, where), chief, first)] == [0, 0, 0]


def test_a_worker_that_does_not_come_is_named_by_all_others(start: Start) -> None:
    where = addresses(4)
    chief = start(0, where, timeout_s=4)
    follower = start(3, where, timeout_s=60)
    for worker in (chief, follower):
        code, out = ended(worker)
        assert code == 75, out
        assert f"2 of 4 workers did not come within {4 if worker is chief else 60} s" in out
        assert f"worker 1 ({where[1]}), worker 2 ({where[2]})" in out
        assert "worker 3" not in out.split("did not come")[1]
        assert "train.start_timeout_s" in out


def test_a_chief_that_does_not_come_is_named() -> None:
    where = tuple(addresses(2))
    with pytest.raises(TemporaryError, match=f"1 of 2 workers .*worker 0 \\({where[0]}\\); it was not reached: "):
        rendezvous.meet(Cluster(2, 1, where), 0.2)


def test_a_name_that_is_never_known_is_named() -> None:
    where = (*addresses(1), "worker-1.example.invalid:2222")
    with pytest.raises(TemporaryError, match=r"worker 1 \(worker-1\.example\.invalid:2222\); their names are not"):
        rendezvous.meet(Cluster(2, 0, where), 0.2)


def test_a_worker_that_was_lost_is_waited_for_again(start: Start) -> None:
    where = addresses(3)
    chief, lost = start(0, where), start(1, where)
    assert lost.stdout is not None
    assert lost.stdout.readline().startswith("Waiting for worker 2")
    lost.kill()
    lost.wait()
    assert chief.stdout is not None
    while "worker 1" not in (line := chief.stdout.readline()) or "worker 2" not in line:
        assert line, "the chief ended"
    second = start(2, where)
    assert second.stdout is not None
    assert second.stdout.readline() == f"Waiting for worker 1 ({where[1]}) of 3 workers.\n"
    assert [ended(each)[0] for each in (start(1, where), second, chief)] == [0, 0, 0]


def test_an_old_chief_that_trains_already_is_not_taken_for_the_new_one(start: Start) -> None:
    where = addresses(2)
    port = int(where[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as old:
        worker = start(1, where)
        for _ in range(2):  # it calls, hears HTTP/2, and calls again
            caller, _ = old.accept()
            with caller:
                caller.sendall(b"\0\0\x12\4\0\0\0\0\0\0\5\0\n")
                assert caller.recv(4096) == b"finetune worker 1 of 2\n"
    assert ended(start(0, where))[0] == 0
    assert ended(worker) == (0, "start\n")


def test_a_caller_from_another_run_is_not_taken_for_a_worker(start: Start) -> None:
    where = addresses(2)
    chief = start(0, where)
    assert chief.stdout is not None
    assert chief.stdout.readline().startswith("Waiting for worker 1")
    port = int(where[0].rpartition(":")[2])
    for line in (b"finetune worker 1 of 3\n", b"GET / HTTP/1.1\r\n\r\n", b""):
        caller = connected(port)
        caller.sendall(line)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(4096) == b""
        caller.close()
    assert chief.poll() is None
    assert [ended(each)[0] for each in (start(1, where), chief)] == [0, 0]


def connected(port: int) -> socket.socket:
    """Returns a connection to a server that says that it is about to listen."""
    deadline_s = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline_s


@pytest.mark.parametrize("worker", [0, 1])
def test_a_stop_ends_the_wait(worker: int) -> None:
    def pause(seconds: float) -> None:
        raise StoppedError("Stopped")

    with pytest.raises(StoppedError):
        rendezvous.meet(Cluster(2, worker, tuple(addresses(2))), 60, pause=pause)


def test_a_port_in_use_is_named() -> None:
    where = addresses(2)
    port = int(where[0].rpartition(":")[2])
    with (
        socket.create_server(("", port), family=socket.AF_INET),
        pytest.raises(TemporaryError, match=f"cannot listen on port {port}"),
    ):
        rendezvous.meet(Cluster(2, 0, tuple(where)), 0.2)


@pytest.mark.parametrize("address", ["host", ":2222", "host:http"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=f"{address!r}, which is not host:port"):
        rendezvous.meet(Cluster(2, 0, ("127.0.0.1:1", address)), 60)


def test_ports_are_free_for_tensorflow_after_the_meeting(start: Start) -> None:
    where = addresses(2)
    assert [ended(each)[0] for each in [start(worker, where) for worker in (0, 1)]] == [0, 0]
    with socket.socket() as plain:  # without SO_REUSEADDR, so that a TIME_WAIT would show
        plain.bind(("127.0.0.1", int(where[0].rpartition(":")[2])))
