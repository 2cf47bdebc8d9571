"""HTTP/1.1 on one connection: requests in, responses out.

Written by hand because `http.server` spends most of a small request in the email parser. Knows nothing
of buckets. A response can be told to arrive late, broken or not at all (`faults.py`).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qsl

MAX_HEAD_BYTES = 64 * 1024
BLOCK_BYTES = 1 << 20
_DRIPS_PER_S = 20
PHRASES = {int(status): status.phrase for status in HTTPStatus} | {308: "Resume Incomplete", 499: "Cancelled"}


class BadRequestError(Exception):
    """Bytes that are not HTTP: answered with 400, then the connection is closed."""


@dataclass
class Request:
    """One request; its body is read from the connection only when somebody asks for it.

    Attributes:
        target: Path and query as sent, still percent-encoded.
        headers: Names in lower case.
        blocks: The body, piece by piece; may be walked through once.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    blocks: Iterator[bytes]

    @cached_property
    def path(self) -> str:
        """Still percent-encoded: an encoded slash belongs to a name."""
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def base_url(self) -> str:
        """Where the client sees this server. From the Host header: behind Docker only that name leads back here."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    def read(self) -> bytes:
        return b"".join(self.blocks)


@dataclass(frozen=True)
class Response:
    """What goes back, and (for faults only) how it gets lost on the way.

    Attributes:
        headers: Without content-length; the connection writes it.
        is_chunked: Send without a length, as Cloud Storage does where it decompresses on the fly.
        stall_s: Seconds to wait before the first byte, or after `stall_after_bytes` of the body.
        drip_bytes_per_s: Send the body no faster than this, bit by bit; 0 is as fast as it goes.
        cut_after_bytes: Close the connection after so much of the body.
        is_reset: With `cut_after_bytes`: close with a TCP reset; at 0 nothing at all is sent.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""
    is_chunked: bool = False
    stall_s: float = 0.0
    stall_after_bytes: int | None = None
    drip_bytes_per_s: float = 0.0
    cut_after_bytes: int | None = None
    is_reset: bool = False

    @classmethod
    def of_json(cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        fields = {"content-type": "application/json; charset=UTF-8", **(headers or {})}
        return cls(status, fields, json.dumps(value).encode())


class Connection:
    """The server's end of one TCP connection.

    Attributes:
        num_body_bytes: Of the bodies of all responses, sent so far.
    """

    num_body_bytes = 0

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self._sock = sock
        self._closing = closing
        self._buffer = b""

    def read_request(self) -> Request | None:
        """Returns the next request, or None when the client has gone."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequestError("the request's head is longer than 64 KiB")
            if not (piece := self._sock.recv(65536)):
                return None
            self._buffer += piece
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            key, colon, value = line.partition(":")
            if not colon:
                raise BadRequestError(f"not a header: {line!r}")
            key = key.lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequestError(f"not a request line: {lines[0]!r}")
        if parts[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return Request(parts[0], parts[1], headers, self._body(headers))

    def _body(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        if headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while num_bytes := int(self._line().partition(b";")[0], 16):
                yield from self._exactly(num_bytes)
                self._line()
            while self._line():
                pass
        else:
            yield from self._exactly(int(headers.get("content-length", 0)))

    def _exactly(self, num_bytes: int) -> Iterator[bytes]:
        while num_bytes > 0:
            if self._buffer:
                piece, self._buffer = self._buffer[:num_bytes], self._buffer[num_bytes:]
            elif not (piece := self._sock.recv(min(num_bytes, BLOCK_BYTES))):
                raise ConnectionResetError("the client went away in the middle of a body")
            num_bytes -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not (piece := self._sock.recv(65536)):
                raise ConnectionResetError("the client went away in the middle of a body")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def send(self, response: Response, *, is_head: bool = False, is_last: bool = False) -> bool:
        """Sends a response.

        Returns:
            Whether the connection can carry another request.
        """
        body = memoryview(response.body)
        if response.is_reset and not response.cut_after_bytes:
            self.reset()
            return False
        if response.stall_s and response.stall_after_bytes is None:
            self._closing.wait(response.stall_s)
        lines = [f"HTTP/1.1 {response.status} {PHRASES.get(response.status, '')}"]
        lines += [f"{key}: {value}" for key, value in response.headers.items()]
        if response.is_chunked:
            lines.append("transfer-encoding: chunked")
            body = memoryview((b"%x\r\n%b\r\n" % (len(body), bytes(body)) if body else b"") + b"0\r\n\r\n")
        elif response.status not in (204, 304):
            lines.append(f"content-length: {len(body)}")
        if is_last:
            lines.append("connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if is_head:
            body = body[:0]
        if response.cut_after_bytes is not None:
            body = body[: response.cut_after_bytes]
        if len(body) < BLOCK_BYTES // 16 and not response.stall_s and not response.drip_bytes_per_s:
            self._sock.sendall(head + body)
            self.num_body_bytes += len(body)
        else:
            self._sock.sendall(head)
            stall_at = response.stall_after_bytes or 0
            self._send_body(body[:stall_at], response.drip_bytes_per_s)
            if response.stall_after_bytes is not None:
                self._closing.wait(response.stall_s)
            self._send_body(body[stall_at:], response.drip_bytes_per_s)
        if response.cut_after_bytes is not None:
            if response.is_reset:
                self.reset()
            return False
        return not is_last

    def _send_body(self, body: memoryview, bytes_per_s: float) -> None:
        piece_bytes = max(1, int(bytes_per_s / _DRIPS_PER_S)) if bytes_per_s else BLOCK_BYTES
        for start in range(0, len(body), piece_bytes):
            if bytes_per_s and self._closing.wait(piece_bytes / bytes_per_s):
                raise ConnectionResetError("the server is being closed")
            piece = body[start : start + piece_bytes]
            self._sock.sendall(piece)
            self.num_body_bytes += len(piece)

    def reset(self) -> None:
        """Makes the coming close a TCP reset: lingering for 0 seconds (socket(7), SO_LINGER)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
