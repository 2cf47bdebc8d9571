"""Making a TCP or TLS connection by steps, so that one thread can make many in the time of one.

Over TLS each is three times the way to the server and back; sixteen one after the other would be seconds.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Generator

Connected = socket.socket | ssl.SSLSocket


def connecting(
    host: str, port: int, tls: ssl.SSLContext | None, *, timeout_s: float
) -> Generator[None, None, Connected]:
    """Yields whenever the other side has to answer; returns the connection.

    Args:
        tls: How the server is trusted; None for plain TCP.
        timeout_s: Of each address that the name has, and of the TLS handshake.

    Raises:
        OSError: What the last of the addresses, or the handshake, said.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            until_s = time.monotonic() + timeout_s
            if sock.connect_ex(address):
                yield
                _finish_connect(sock, until_s)
            return sock if tls is None else (yield from _shaking_hands(sock, tls, host, timeout_s))
        except OSError as error:
            sock.close()
            if isinstance(error, ssl.SSLError):
                raise
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError(f"the name {host} has no address")


def _finish_connect(sock: socket.socket, until_s: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    # What came while nobody looked counts, as late as it is.
    if not poll.poll(max(0.0, 1e3 * (until_s - time.monotonic()))):
        raise TimeoutError("timed out")
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))


def _shaking_hands(
    sock: socket.socket, tls: ssl.SSLContext, host: str, timeout_s: float
) -> Generator[None, None, ssl.SSLSocket]:
    secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            yield
            secured.settimeout(timeout_s)
            secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured
