"""The way to a server through a proxy, for `gcs_media`: urllib3 knows the kinds of proxies. A `Wire` in all else."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import urllib3

from job.storage.checksum import CHUNK_BYTES
from job.storage.retry import PassingError
from job.storage.wire import Headers, Reply


class Detour:
    """One connection through a proxy. For one thread at a time.

    Args:
        proxy: URL.
        endpoint: Scheme and host of the server, no trailing slash.
        tls: How server and proxy are trusted.
    """

    is_open = is_whole = True  # urllib3 opens another connection where this one cannot go on

    def __init__(
        self,
        proxy: str,
        endpoint: str,
        tls: ssl.SSLContext | None,
        *,
        connect_timeout_s: float,
        progress_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        userinfo = unquote(urllib3.util.parse_url(proxy).auth or "")
        self._http = urllib3.ProxyManager(
            proxy,
            maxsize=1,
            ssl_context=tls,
            proxy_ssl_context=tls,
            proxy_headers=urllib3.make_headers(proxy_basic_auth=userinfo) if userinfo else None,
        )
        self._timeout = urllib3.Timeout(connect=connect_timeout_s, read=progress_timeout_s)
        self._asked: tuple[str, Mapping[str, str]] = ("", {})

    def close(self) -> None:
        self._http.clear()

    def ask(self, target: str, headers: Mapping[str, str]) -> None:
        """As `Wire.ask`, but sends nothing before `reply`."""
        self._asked = (target, headers)

    def reply(self) -> Reply:
        """As `Wire.reply`."""
        target, headers = self._asked
        try:
            response = self._http.request(
                "GET",
                self._endpoint + target,
                headers=headers,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise PassingError(f"{type(error).__name__}: {error}", is_broken=True) from error
        head = "".join(f"\r\n{name}: {value}" for name, value in response.headers.items())
        return Reply(response.status, Headers(head.encode("latin-1")), _body(response))


def _body(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        # read1 returns what has come; read(n) would wait for n bytes, out of reach of the deadline.
        while piece := response.read1(CHUNK_BYTES):
            yield piece
    except urllib3.exceptions.HTTPError as error:
        raise PassingError(f"{type(error).__name__}: {error}", is_broken=True) from error
    response.release_conn()
