"""Ports on loopback that nobody listens on."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

# Below those that the kernel gives to outgoing connections (from 32768 on Linux), of which a job has many.
FIRST, END = 20000, 32000
NUM_SHARES = 16


def free_ports(num: int) -> list[int]:
    """Returns so many different ones, for processes that are told where to listen, once or again and again.

    Of several processes that run tests beside each other (pytest-xdist) each chooses from a share of its own: between
    the choice and the moment when a job listens the other one could take the same.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % NUM_SHARES
    found: set[int] = set()
    while len(found) < num:
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(FIRST + share, END, NUM_SHARES)))
            found.add(one.getsockname()[1])
    return sorted(found)
