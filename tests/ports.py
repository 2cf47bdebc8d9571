"""Ports on loopback that nobody listens on."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress


def free_ports(num: int) -> list[int]:
    """Returns so many different ones, for processes that are told where to listen."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def lasting_ports(num: int) -> list[int]:
    """Returns so many different ones for processes that are started again and again.

    Below those that the kernel gives to outgoing connections (from 32768 on Linux), of which a job has many.
    """
    found: set[int] = set()
    while len(found) < num:
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(20000, 32000)))
            found.add(one.getsockname()[1])
    return sorted(found)
