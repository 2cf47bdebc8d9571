"""The client's end of one HTTP/1.1 connection: GETs one after the other, each body in pieces as it comes.

Of its own because small objects cost what is around their bytes: 0.5 ms of processor time with urllib3, 0.25 ms with
http.client, 0.05 ms here (measured on objects of 25 KB). What is left of it are system calls, each with a hand-over of
the interpreter's lock: hence time-outs that the kernel keeps. It does what reading an object needs and no more: no
redirects, no cookies, no compression; `detour.py` goes through proxies. Source: RFC 9112.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from job.storage.connecting import Connected, connecting
from job.storage.retry import PassingError

_HEAD_BYTES: Final = 64 << 10
"""Longest head that is read; also what is asked for with it, so that a small object comes along."""

_PIECE_BYTES: Final = 256 << 10
"""Of a body, at most: hashed and written while it is in the processor's cache. 1 MiB took 2.4 MB more memory and no
less processor time."""

_FRESH_S: Final = 1.0
"""Time after an answer in which no server hangs up for idleness, and so is not asked whether it did."""

_LEAST_S: Final = 0.01
"""Time-out where the patience is used up: what came meanwhile is taken all the same."""


class Headers:
    """The fields of an answer, looked up where they stand: most of them nobody asks for."""

    def __init__(self, head: bytes) -> None:
        self._text = head.decode("latin-1") + "\r\n"
        self._lower = self._text.lower()

    def get(self, name: str) -> str:
        """Returns the value of a field, "" where there is none; what came several times is joined by ", ".

        Args:
            name: In lower case.
        """
        found, end = [], 0
        while (start := self._lower.find(f"\r\n{name}:", end)) >= 0:
            end = self._text.index("\r\n", start + 2)
            found.append(self._text[start + len(name) + 3 : end].strip())
        return ", ".join(found)


@dataclass(slots=True)
class Reply:
    """What a server answers.

    Attributes:
        body: Pieces as they come. Raises PassingError where it ends early or is silent for too long.
    """

    status: int
    headers: Headers
    body: Iterator[bytes]


def opening(
    host: str, port: int, tls: ssl.SSLContext | None, *, connect_timeout_s: float, progress_timeout_s: float
) -> Generator[None, None, Wire]:
    """Connects; yields whenever the other side has to answer, and returns the wire.

    Args:
        host: Name or address, without a port.
        tls: How the server is trusted; None speaks plain HTTP.
        connect_timeout_s: Until the connection stands.
        progress_timeout_s: Longest silence between two bytes.

    Raises:
        PassingError: There is no connection.
    """
    name = f"[{host}]" if ":" in host else host
    try:
        connection = yield from connecting(host, port, tls, timeout_s=connect_timeout_s)
        called = name if port == (443 if tls else 80) else f"{name}:{port}"
        return Wire(connection, called, progress_timeout_s=progress_timeout_s)
    except OSError as error:
        raise _passing(error) from error


class Wire:
    """One connection. For one thread at a time.

    Attributes:
        is_whole: The last answer came to its end, and another request may follow.

    Args:
        connection: To the server.
        host: What the server is called: name or address, and the port where it is not the scheme's.
        progress_timeout_s: Longest silence between two bytes.
    """

    def __init__(self, connection: Connected, host: str, *, progress_timeout_s: float) -> None:
        self._socket, self._host, self._patience_s = connection, host, progress_timeout_s
        # Not in __del__: among garbage that refers to itself the socket may come first, and complains.
        self._close = weakref.finalize(self, connection.close)
        # OpenSSL does not see a time-out of the kernel's; Python's costs a poll before every call.
        self._is_plain = not isinstance(connection, ssl.SSLSocket)
        if self._is_plain:
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(progress_timeout_s))
        self._set_patience(progress_timeout_s)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._rest = b""
        self._asked_s = self._answered_s = time.monotonic()
        self.is_whole = True

    @property
    def is_open(self) -> bool:
        """Whether the other side has not hung up since the last answer; it has nothing to say unasked."""
        return time.monotonic() - self._answered_s < _FRESH_S or not self._poll.poll(0)

    def close(self) -> None:
        self._close()

    def ask(self, target: str, headers: Mapping[str, str]) -> None:
        """Sends one request.

        Args:
            target: Path and query, quoted.

        Raises:
            PassingError: The connection broke, or takes nothing for too long.
        """
        self.is_whole = False
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n{lines}\r\n".encode("latin-1"))
        except OSError as error:
            raise _passing(error) from error
        self._asked_s = time.monotonic()

    def reply(self) -> Reply:
        """Reads the head of the answer to what was asked.

        Raises:
            PassingError: The connection broke, was silent for too long, or what came is no HTTP.
        """
        # The silence began with the question, however late the answer is read: many may be silent together.
        silent_s = time.monotonic() - self._asked_s
        if is_late := silent_s > _FRESH_S:
            self._set_patience(max(self._patience_s - silent_s, _LEAST_S))
        status = 100
        while 100 <= status < 200:  # notices that an answer will follow
            version, status, found = self._head()
        if is_late:
            self._set_patience(self._patience_s)
        stays = version == b"HTTP/1.1" and found.get("connection").lower() != "close"
        return Reply(status, found, self._body(status, found, stays))

    def _set_patience(self, longest_s: float) -> None:
        if self._is_plain:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(longest_s))
        else:
            self._socket.settimeout(longest_s)

    def _head(self) -> tuple[bytes, int, Headers]:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > _HEAD_BYTES:
                raise PassingError("the answer's head does not end")
            self._rest += self._some(_HEAD_BYTES)
        head, self._rest = self._rest[:end], self._rest[end + 4 :]
        version, _, rest = head.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise PassingError(f"the answer is no HTTP: {head[:80]!r}")
        return version, int(rest[:3]), Headers(head)

    def _body(self, status: int, headers: Headers, stays: bool) -> Iterator[bytes]:
        coding, length = headers.get("transfer-encoding").lower(), headers.get("content-length")
        if coding == "chunked":
            yield from self._chunks()
        elif status in (204, 304) or (length and not coding):
            yield from self._exactly(_number(length.encode(), 10) if length else 0)
        else:  # until the other side hangs up
            stays = False
            yield self._rest
            while piece := self._received(_PIECE_BYTES):
                yield piece
            self._rest = b""
        self._answered_s = time.monotonic()
        self.is_whole = stays and not self._rest

    def _exactly(self, num_bytes: int) -> Iterator[bytes]:
        if self._rest:
            piece, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
            num_bytes -= len(piece)
            yield piece
        while num_bytes:
            piece = self._some(min(num_bytes, _PIECE_BYTES))
            num_bytes -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while num_bytes := _number(self._line().partition(b";")[0], 16):
            yield from self._exactly(num_bytes)
            self._line()
        while self._line():  # fields that may follow the last chunk
            pass

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            if len(self._rest) > _HEAD_BYTES:
                raise PassingError("a line of the answer does not end")
            self._rest += self._some(_HEAD_BYTES)
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _some(self, most: int) -> bytes:
        if piece := self._received(most):
            return piece
        raise PassingError("the connection was closed in the middle of an answer", is_broken=True)

    def _received(self, most: int) -> bytes:
        try:
            return self._socket.recv(most)
        except OSError as error:
            raise _passing(error) from error


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise PassingError(f"the answer has no length but {text[:40]!r}")
    return number


def _passing(error: OSError) -> PassingError:
    is_silent = isinstance(error, BlockingIOError)  # what the kernel says after SO_RCVTIMEO and SO_SNDTIMEO
    return PassingError("TimeoutError: timed out" if is_silent else f"{type(error).__name__}: {error}", is_broken=True)


def _timeval(seconds: float) -> bytes:
    """Returns a `struct timeval`, as socket(7) wants it for SO_RCVTIMEO and SO_SNDTIMEO."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
