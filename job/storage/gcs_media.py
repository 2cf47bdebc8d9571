"""The fast lane for reading Cloud Storage objects: whole bodies over connections that stay open, every byte hashed.

`wire.py` says why neither urllib3 nor `requests`; tokens are google.auth's.
"""

from __future__ import annotations

import functools
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

import certifi
from google.auth.credentials import Credentials

from job.errors import DatasetError
from job.storage import checksum
from job.storage.detour import Detour
from job.storage.requests_lean import transport
from job.storage.retry import PassingError, Policy
from job.storage.wire import Wire, opening

_POOL_SIZE: Final = 256
"""Connections kept open: as many as a pull asks at once, so that none waits for a handshake."""
_UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived, counted and hashed here; `stated` is the server's own header of hashes."""

    size_bytes: int
    crc32c: str
    stated: str

    @property
    def stated_crc32c(self) -> str:
        """What the server says the hash is, hex, or ""."""
        for part in self.stated.split(","):
            kind, _, value = part.strip().partition("=")
            if kind == "crc32c":
                return checksum.from_base64(value)
        return ""


class StatusError(Exception):
    """An answer other than 200, before it is translated at the store's border."""

    def __init__(self, status: int, reason: str, retry_after: str) -> None:
        super().__init__(f"HTTP {status}: {reason}")
        self.status, self.reason, self.retry_after = status, reason, retry_after


class Media:
    """Reads object bodies. Thread-safe; one for a process, so that connections are shared.

    Args:
        credentials: None sends no token (an emulator).
        endpoint: Scheme and host of the service, for an emulator perhaps a path, no trailing slash.
        policy: Time-outs.
    """

    def __init__(self, credentials: Credentials | None, endpoint: str, policy: Policy) -> None:
        parts = urlsplit(endpoint)
        self._server, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._credentials = credentials
        self._token_request = transport.Request()
        self._token_lock = threading.Lock()
        self._open = _opener(self._server, policy)
        self._idle: list[Wire | Detour] = []

    def fetching(
        self, bucket: str, name: str, write: Callable[[bytes], object], *, generation: str = "", limit_s: float
    ) -> Generator[None, None, Received]:
        """Hands an object's stored bytes to `write`; checks nothing but the status.

        Yields whenever the server has to answer.

        Args:
            generation: Pins one version; "" reads the newest.
            limit_s: Longest the body may take, however steadily it drips.

        Raises:
            StatusError: Any status but 200.
            PassingError: The connection failed, or was too slow.
            DatasetError: The object is stored compressed, so its bytes are not the file's.
        """
        # A slash by itself: with `safe=""` a name that has one is quoted letter by letter.
        key = quote(name).replace("/", "%2F")
        target = f"{self._path}/download/storage/v1/b/{quote(bucket)}/o/{key}?alt=media"
        if generation:
            target += f"&generation={generation}"
        headers = self._headers(target)
        wire = yield from self._take()
        try:
            wire.ask(target, headers)
            yield
            started_s = time.monotonic()
            reply = wire.reply()
            if reply.status == _UNAUTHORIZED and self._credentials is not None:
                # A token may end between its check here and the server's: one more try, with a new one.
                wire.close()
                self._renew(self._credentials, headers.get("authorization", ""))
                wire = yield from self._open()
                wire.ask(target, self._headers(target))
                reply = wire.reply()
            if reply.status != 200:
                reason = _beginning(reply.body).decode("utf-8", "replace")
                raise StatusError(reply.status, reason, reply.headers.get("retry-after"))
            if reply.headers.get("content-encoding") == "gzip":
                raise DatasetError(
                    f"gs://{bucket}/{name} is stored with Content-Encoding: gzip",
                    next_step="Upload it again without compression (no -z, -Z or -j).",
                )
            digest, size_bytes = checksum.start("crc32c"), 0
            for piece in reply.body:
                digest.update(piece)
                write(piece)
                size_bytes += len(piece)
                if time.monotonic() - started_s > limit_s:
                    raise PassingError(f"only {size_bytes:,} bytes came in {limit_s:.0f} s", is_broken=True)
        except BaseException:
            wire.close()
            raise
        if wire.is_whole and len(self._idle) < _POOL_SIZE:
            self._idle.append(wire)
        else:
            wire.close()
        return Received(size_bytes, digest.digest().hex(), reply.headers.get("x-goog-hash"))

    def _headers(self, target: str) -> dict[str, str]:
        # "gzip" asks for the bytes as stored: their checksum is the listed one, an unpacked body's is not
        # (https://cloud.google.com/storage/docs/transcoding).
        headers = {"Accept-Encoding": "gzip"}
        if self._credentials is not None:
            self._sign(self._credentials, target, headers)
        return headers

    def _take(self) -> Generator[None, None, Wire | Detour]:
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return (yield from self._open())
            if wire.is_open:
                return wire
            wire.close()

    def _sign(self, credentials: Credentials, target: str, headers: dict[str, str]) -> None:
        """Adds the token, renewed in one thread: otherwise all of them ask the metadata server at once."""
        if not credentials.valid:
            with self._token_lock:
                if not credentials.valid:
                    credentials.refresh(self._token_request)
        credentials.before_request(self._token_request, "GET", self._server + target, headers)

    def _renew(self, credentials: Credentials, refused: str) -> None:
        """Gets a new token, unless another thread did since the server refused this one."""
        with self._token_lock:
            current: dict[str, str] = {}
            credentials.apply(current)
            if current.get("authorization", "") == refused:
                credentials.refresh(self._token_request)


def _beginning(body: Iterator[bytes]) -> bytes:
    """Returns the first 2 KiB of a body that only says what went wrong."""
    read = b""
    for piece in body:
        read += piece
        if len(read) >= 2048:
            break
    return read[:2048]


def _opener(server: str, policy: Policy) -> Callable[[], Generator[None, None, Wire | Detour]]:
    """Returns what opens a connection that trusts and goes through what `requests` would, which does the listing."""
    parts = urlsplit(server)
    tls = _tls() if parts.scheme == "https" else None
    time_outs = {"connect_timeout_s": policy.connect_timeout_s, "progress_timeout_s": policy.progress_timeout_s}
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        trusted = tls or _tls()

        def going_round() -> Generator[None, None, Detour]:
            yield from ()  # it connects with its first request
            return Detour(proxy, server, trusted, **time_outs)

        return going_round
    assert parts.hostname, server
    return functools.partial(opening, parts.hostname, parts.port or (443 if tls else 80), tls, **time_outs)


def _tls() -> ssl.SSLContext:
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    is_folder = os.path.isdir(trusted)
    context = ssl.create_default_context(cafile=None if is_folder else trusted, capath=trusted if is_folder else None)
    context.set_alpn_protocols(["http/1.1"])
    return context
