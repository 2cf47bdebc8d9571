"""Whether the other machines are still there, while each works by itself between two exchanges.

An exchange of TensorFlow's fails by itself where a machine is lost, but work in between would first be done to its end;
and TensorFlow cannot be asked meanwhile: behind a network that is cut its answer does not come, nor does the
interpreter's lock come back. So each of the others keeps a connection to the chief, on which nothing is said after who
it is: a process that ends closes it, and the kernel notices within half a minute a machine that is gone without a word.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable

from job.cluster import rendezvous
from job.cluster.tf_config import Cluster
from job.errors import TemporaryError

START_AGAIN = "Start all workers again: they continue from the last checkpoint."


class Attendance:
    """Connections between the chief and the others. Who cannot be reached in this way is not missed.

    Args:
        cluster: Of two machines or more, which have met.
        from_chief: Returns the chief's text on every machine. All must make their `Attendance` at the same time.
    """

    def __init__(self, cluster: Cluster, from_chief: Callable[[str], str]) -> None:
        self._cluster = cluster
        self._others: dict[socket.socket, int] = {}
        """The connection to each, nothing being said on it."""
        self._strangers: list[socket.socket] = []
        """Who has called and not said who it is."""
        self._listener = rendezvous.listener(0) if cluster.is_chief else None
        port, token = "", secrets.token_hex(16)
        if self._listener is not None:
            self._listener.setblocking(False)
            port = str(self._listener.getsockname()[1])
        port, self._token = from_chief(f"{port} {token}").split(" ")
        if self._listener is None:
            with contextlib.suppress(OSError):
                self._call(int(port))

    def demand(self) -> None:
        """Returns at once while nobody is missed.

        Raises:
            TemporaryError: Another machine was lost, or this one is cut off from the chief. Names it.
        """
        if self._listener is not None:
            self._answer(self._listener)
        for other, worker in self._others.items():
            if _said(other) == b"":
                address = self._cluster.addresses[worker]
                raise TemporaryError(
                    f"Another worker of the {self._cluster.num_workers} was lost: worker {worker} ({address}).",
                    next_step=START_AGAIN,
                )

    def close(self) -> None:
        """Keeps watch no longer; to the others this machine is gone."""
        for each in (self._listener, *self._strangers, *self._others):
            if each is not None:
                each.close()

    def _call(self, port: int) -> None:
        host, _ = rendezvous.endpoint(self._cluster.addresses[0])
        chief = socket.create_connection((host, port), timeout=rendezvous.CONNECT_S)
        self._others[chief] = 0
        rendezvous.keep_alive(chief)
        chief.sendall(f"{self._token} {self._cluster.worker}".encode())
        chief.setblocking(False)

    def _answer(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                caller.setblocking(False)
                rendezvous.keep_alive(caller)
                self._strangers.append(caller)
        for caller in self._strangers.copy():
            if (said := _said(caller)) is None:
                continue
            self._strangers.remove(caller)
            token, _, worker = said.partition(b" ")
            if secrets.compare_digest(token, self._token.encode()):
                self._others[caller] = int(worker)
            else:
                caller.close()


def _said(other: socket.socket) -> bytes | None:
    """Returns what came, b"" from who is gone, None where nothing did."""
    try:
        return other.recv(rendezvous.MAX_LINE)
    except BlockingIOError:
        return None
    except OSError:
        return b""
