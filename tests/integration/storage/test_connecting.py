"""Connections by steps: every address of a name is tried, many are made side by side, and none is left open."""

from __future__ import annotations

import socket
import threading
from collections import deque

import pytest

from job.storage.connecting import connecting
from job.storage.retry import PassingError, waited
from job.storage.wire import opening


@pytest.fixture
def refusing() -> tuple[str, int]:
    """Returns an address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        return host, port


def found(*addresses: tuple[str, int]) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]


def test_an_address_that_refuses_is_passed_over(refusing: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found(refusing, listener.getsockname()))
        with waited(connecting("store.test", 80, None, timeout_s=30.0)) as connection:
            assert connection.getpeername() == listener.getsockname()


def test_where_all_refuse_the_failure_passes_and_says_why(refusing: tuple[str, int]):
    with pytest.raises(PassingError, match="ConnectionRefusedError") as caught:
        waited(opening(*refusing, None, connect_timeout_s=30.0, progress_timeout_s=30.0))
    assert caught.value.is_broken


def test_one_thread_makes_connections_side_by_side():
    num = 4
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()

        def serve() -> None:
            """Says nothing to anybody before all of them are there."""
            accepted = [listener.accept()[0] for _ in range(num)]
            for sock in accepted:
                with sock:
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()

        def asking():
            wire = yield from opening(host, port, None, connect_timeout_s=30.0, progress_timeout_s=30.0)
            wire.ask("/", {})
            yield
            status = wire.reply().status
            wire.close()
            return status

        under_way, statuses = deque(asking() for _ in range(num)), []
        while under_way:
            steps = under_way.popleft()
            try:
                next(steps)
            except StopIteration as end:
                statuses.append(end.value)
            else:
                under_way.append(steps)
        thread.join()
    assert statuses == [200] * num


def test_a_connection_that_is_given_up_half_way_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        steps = connecting(*listener.getsockname(), None, timeout_s=30.0)
        next(steps)
        steps.close()
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(60)
            assert accepted.recv(1) == b""
