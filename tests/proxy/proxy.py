"""The proxy itself: a request is read whole, passed on, and its answer comes back the way the rules say.

The Host header is passed on as it came: a store builds the links of its answers (mediaLink, the Location of an upload
session) from it, so that what follows comes through here as well.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from job.demo.object_store.faults import Fault
from job.demo.object_store.wire import BadRequestError, Connection, Request, Response
from tests.proxy.counts import Counts, content_of
from tests.proxy.rules import Rule, Rules

# Of one connection, not of the message (RFC 9110, 7.6.1); the body's length is written anew.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "upgrade"}


class Proxy:
    """Passes HTTP on to one store until its block ends.

    Args:
        target: The store's URL: `http://host:port`.
        port: 0 takes a free one.
        seed: Of the rules' shares.
    """

    def __init__(self, target: str, *, port: int = 0, seed: int = 0) -> None:
        parts = urlsplit(target)
        assert parts.scheme == "http"
        assert parts.hostname
        self._target = (parts.hostname, parts.port or 80)
        self._port = port
        self._rules = Rules(seed)
        self._counts = Counts()
        self._closing = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            threads = list(self._connections.values())
            for sock in self._connections:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    @property
    def url(self) -> str:
        """For STORAGE_EMULATOR_HOST or AWS_ENDPOINT_URL. Valid inside `with`."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def rules(self) -> list[Rule]:
        return self._rules.all

    @rules.setter
    def rules(self, rules: Sequence[Rule]) -> None:
        self._rules.replace(rules)

    def counts(self) -> dict[str, Any]:
        """Returns what passed since the start or the last `reset_counts`; see `Counts.to_json`."""
        return self._counts.to_json()

    def reset_counts(self) -> None:
        self._counts.reset()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closing.is_set():
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="proxy-connection", daemon=True)
            with self._lock:
                self._connections[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        connection, store = Connection(sock, self._closing), http.client.HTTPConnection(*self._target)
        try:
            while (request := connection.read_request()) is not None and self._reply(connection, store, request):
                pass
        except (OSError, BadRequestError, ValueError, http.client.HTTPException):
            # Client or store went away, or a fault wants it to look so.
            connection.reset()
        finally:
            with self._lock:
                self._connections.pop(sock, None)
            store.close()
            sock.close()

    def _reply(self, connection: Connection, store: http.client.HTTPConnection, request: Request) -> bool:
        fault = self._rules.decide(request.method, request.target)
        broken = fault or Fault()
        is_last = request.headers.get("connection", "").lower() == "close"
        body = b""
        try:
            body = b"".join(broken.receive(request.blocks))
        finally:
            self._counts.request(request.method, len(body), fault)
        response = _pass_on(store, request, body) if broken.has_effect else Response(200)
        content = content_of(request, response) if broken.has_effect else None
        before = connection.num_body_bytes
        try:
            return connection.send(broken.spoil(response), is_head=request.method == "HEAD", is_last=is_last)
        finally:
            if content is not None:
                self._counts.content(*content, connection.num_body_bytes - before)


def _pass_on(store: http.client.HTTPConnection, request: Request, body: bytes) -> Response:
    """Returns the store's whole answer."""
    store.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for key, value in request.headers.items():
        if key not in _HOP_BY_HOP:
            store.putheader(key, value)
    if body or request.method not in ("GET", "HEAD", "DELETE"):
        store.putheader("content-length", str(len(body)))
    store.endheaders(body or None)
    answer = store.getresponse()
    received = answer.read()
    if request.method == "HEAD":
        # Only its length is sent: that of the object.
        received = bytes(int(answer.headers.get("content-length", 0)))
    headers = {key: value for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP}
    return Response(answer.status, headers, received)
