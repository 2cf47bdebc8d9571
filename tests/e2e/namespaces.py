"""Machines on this one: network namespaces on a bridge of their own, each with an address and names for all.

As root, on Linux, with `ip`; see `why_not`. Files are shared, the network is not: what one namespace listens on no
other reaches but over its link, and a link can be cut.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HOSTS = Path("/etc/netns")
"""`ip netns exec` puts the files below here over those of /etc (man ip-netns)."""


@dataclass(frozen=True)
class Network:
    """Namespaces that reach each other.

    Attributes:
        machines: The name of each namespace.
        addresses: Of each in the network.
    """

    machines: tuple[str, ...]
    addresses: tuple[str, ...]

    def command(self, machine: int, *command: str) -> list[str]:
        """Returns the command that runs another one on a machine."""
        return ["ip", "netns", "exec", self.machines[machine], *command]

    def cut(self, machine: int) -> None:
        """Takes a machine's link down: to the others it is gone without a word."""
        _ip("-n", self.machines[machine], "link", "set", "eth0", "down")


def why_not() -> str:
    """Returns why there can be no namespaces here; "" where there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2)"
    try:
        with network("machine.test", 1):
            return ""
    except subprocess.CalledProcessError as error:
        return f"the kernel refuses: {' '.join(error.cmd)}: {error.stderr.strip()}"


@contextmanager
def network(domain: str, num: int, *, job: str = "job") -> Iterator[Network]:
    """Gives so many machines, called `<job>-0.<domain>` and so on, in a network of their own; takes them away after.

    Raises:
        subprocess.CalledProcessError: When the kernel refuses. `stderr` says what.
    """
    # Two test runs at once on one machine stay out of each other's way.
    prefix = f"ft{os.getpid()}"
    machines = tuple(f"{prefix}-{number}" for number in range(num))
    addresses = tuple(f"10.77.0.{number + 1}" for number in range(num))
    hub = f"{prefix}-hub"
    names = [f"{address} {job}-{number}.{domain}" for number, address in enumerate(addresses)]
    with ExitStack() as undo:
        for name in (hub, *machines):
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, (name, address) in enumerate(zip(machines, addresses, strict=True)):
            port = f"port{number}"
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            (HOSTS / name).mkdir(parents=True)
            undo.callback(_forget, HOSTS / name)
            (HOSTS / name / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        yield Network(machines, addresses)


def _forget(folder: Path) -> None:
    shutil.rmtree(folder)
    with suppress(OSError):  # of a run beside this one, or of the machine's own namespaces
        folder.parent.rmdir()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
