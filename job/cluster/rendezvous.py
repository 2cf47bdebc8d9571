"""All machines of a run meet before TensorFlow starts to wait for them.

TensorFlow waits an hour for a worker that does not come, and does not say for which one; its accelerators are paid
meanwhile. So the workers meet first, on the port that TensorFlow will use, which nobody listens on yet: each of the
others calls the chief and says who it is; when all have called, the chief lets them go. A worker that starts again
while an old chief still trains gets no answer from it in these words (it speaks HTTP/2 there), and calls on until the
new chief is there: the generations do not mix.

Lines, UTF-8:  worker → chief  `finetune worker 2 of 4`
               chief → worker  `waiting for 1,3` whenever that changes, `late 1,3` when it gives up, `start`
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator

from job.cluster.tf_config import Cluster
from job.errors import ConfigError, TemporaryError

PAUSE_S = 0.5
"""Seconds between two tries to find a name or to reach the chief."""

CONNECT_S = 5.0
"""Seconds a try to reach the chief may take."""

HELLO = "finetune worker {worker} of {num_workers}\n"
MAX_LINE = 4096

Pause = Callable[[float], None]
Say = Callable[[str], None]


def meet(cluster: Cluster, timeout_s: float, *, pause: Pause = time.sleep, say: Say = lambda _: None) -> None:
    """Returns on every worker once all of them are there and know each other's names; at once for one machine.

    Args:
        cluster: With the addresses of all.
        timeout_s: Seconds to wait, above 0.
        pause: Waits; raises to leave the meeting.
        say: Takes a line for people whenever it changes who is waited for.

    Raises:
        TemporaryError: When some did not come. Names them.
        ConfigError: When an address is not `host:port`.
    """
    if cluster.num_workers < 2:
        return
    peers = [endpoint(address) for address in cluster.addresses]
    deadline_s = time.monotonic() + timeout_s
    _find_names(cluster, peers, deadline_s, timeout_s, pause)
    if cluster.is_chief:
        _host(cluster, peers[0][1], deadline_s, timeout_s, pause, say)
    else:
        _attend(cluster, peers[0], deadline_s, timeout_s, pause, say)


def endpoint(address: str) -> tuple[str, int]:
    """Returns host and port of a worker's address.

    Raises:
        ConfigError: When it is not `host:port`.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigError(
            f"TF_CONFIG names a worker {address!r}, which is not host:port.", next_step="Write, for example, host:2222."
        )
    return host.strip("[]"), int(port)


def _find_names(
    cluster: Cluster, peers: list[tuple[str, int]], deadline_s: float, timeout_s: float, pause: Pause
) -> None:
    """Waits until the name of every worker is known: TensorFlow asks for each once, and fails."""
    unknown = set(range(cluster.num_workers))
    while True:
        for worker in sorted(unknown):
            with contextlib.suppress(OSError):
                socket.getaddrinfo(*peers[worker], type=socket.SOCK_STREAM)
                unknown.discard(worker)
        if not unknown:
            return
        if time.monotonic() >= deadline_s:
            raise _late(cluster, unknown, timeout_s, "their names are not known")
        pause(PAUSE_S)


def _host(cluster: Cluster, port: int, deadline_s: float, timeout_s: float, pause: Pause, say: Say) -> None:
    """The chief's part: collects the others, tells them for whom it waits, and lets all go."""
    expected = set(range(1, cluster.num_workers))
    with _listening(port, deadline_s, pause) as door, contextlib.ExitStack() as open_sockets:
        selector = open_sockets.enter_context(selectors.DefaultSelector())
        selector.register(door, selectors.EVENT_READ)
        here: dict[int, socket.socket] = {}
        said: set[int] = set()
        while missing := expected - set(here):
            if missing != said:
                said = missing
                say(f"Waiting for {_named(cluster, missing)} of {cluster.num_workers} workers.")
            if time.monotonic() >= deadline_s:
                _tell(here, f"late {_listed(missing)}\n")
                raise _late(cluster, missing, timeout_s, "they did not call")
            for key, _ in selector.select(timeout=PAUSE_S):
                if key.fileobj is door:
                    with contextlib.suppress(OSError):
                        caller, _ = door.accept()
                        open_sockets.callback(caller.close)
                        caller.settimeout(CONNECT_S)
                        keep_alive(caller)
                        selector.register(caller, selectors.EVENT_READ)
                    continue
                _hear(cluster, key.fileobj, here, selector)
                if missing := expected - set(here):
                    _tell(here, f"waiting for {_listed(missing)}\n")
            pause(0.0)
        _tell(here, "start\n")
        # They hang up first, so that the port is free for TensorFlow at once (TIME_WAIT stays with who closes).
        for caller in here.values():
            with contextlib.suppress(OSError):
                caller.settimeout(CONNECT_S)
                while caller.recv(MAX_LINE):
                    pass


def _hear(cluster: Cluster, caller: object, here: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Takes what a caller says: who it is, or that it is gone."""
    assert isinstance(caller, socket.socket)
    try:
        text = caller.recv(MAX_LINE).decode(errors="replace")
    except OSError:
        text = ""
    for worker in range(1, cluster.num_workers):
        if text == HELLO.format(worker=worker, num_workers=cluster.num_workers):
            here[worker] = caller
            return
    selector.unregister(caller)
    caller.close()
    for worker in [number for number, each in here.items() if each is caller]:
        del here[worker]


def _attend(
    cluster: Cluster, chief: tuple[str, int], deadline_s: float, timeout_s: float, pause: Pause, say: Say
) -> None:
    """The others' part: calls the chief until it says `start`."""
    missing, why, said = {0}, "it was not reached", ""
    while time.monotonic() < deadline_s:
        try:
            with socket.create_connection(chief, timeout=CONNECT_S) as chief_socket:
                chief_socket.sendall(HELLO.format(worker=cluster.worker, num_workers=cluster.num_workers).encode())
                for line in _lines(chief_socket, deadline_s, pause):
                    verb, _, rest = line.rpartition(" ")
                    if line == "start":
                        return
                    if verb not in ("waiting for", "late"):
                        break  # it speaks another language: an old chief, already training
                    missing, why = {int(number) for number in rest.split(",")}, "the chief waits for them"
                    if verb == "late":
                        raise _late(cluster, missing, timeout_s, "they did not call the chief")
                    if line != said:
                        said = line
                        say(f"Waiting for {_named(cluster, missing)} of {cluster.num_workers} workers.")
            if time.monotonic() < deadline_s:
                missing, why = {0}, "it gave no answer in the words of a start"
        except (OSError, ValueError) as error:
            missing, why = {0}, f"it was not reached: {error}"
        pause(PAUSE_S)
    raise _late(cluster, missing, timeout_s, why)


def _lines(chief: socket.socket, deadline_s: float, pause: Pause) -> Iterator[str]:
    """Yields the lines that the chief sends; ends as it hangs up, or a second after the deadline."""
    chief.settimeout(PAUSE_S)
    buffer = b""
    while time.monotonic() < deadline_s + 1.0:
        try:
            received = chief.recv(MAX_LINE)
        except TimeoutError:
            pause(0.0)
            continue
        if not received or len(buffer) > MAX_LINE:
            return
        *lines, buffer = (buffer + received).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


@contextlib.contextmanager
def _listening(port: int, deadline_s: float, pause: Pause) -> Iterator[socket.socket]:
    """Gives the listening socket; waits for a predecessor on the same machine to leave the port."""
    while True:
        try:
            opened = listener(port)
            break
        except OSError as error:
            if time.monotonic() >= deadline_s:
                raise TemporaryError(
                    f"The chief cannot listen on port {port}: {error}.",
                    next_step="End what uses this port on its machine, or name another port in TF_CONFIG.",
                ) from error
            pause(PAUSE_S)
    with opened:
        yield opened


def listener(port: int) -> socket.socket:
    """Returns a socket that listens on all addresses of this machine; on any free port where it is 0.

    Raises:
        OSError: The port is taken.
    """
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=dual)


def keep_alive(other: socket.socket) -> None:
    """Lets the kernel notice within half a minute a machine that was lost without a word; two hours by itself."""
    other.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _tell(here: dict[int, socket.socket], line: str) -> None:
    for caller in here.values():
        # Who is gone is noticed as it is read from.
        with contextlib.suppress(OSError):
            caller.sendall(line.encode())


def _listed(workers: set[int]) -> str:
    return ",".join(str(worker) for worker in sorted(workers))


def _named(cluster: Cluster, workers: set[int]) -> str:
    return ", ".join(f"worker {worker} ({cluster.addresses[worker]})" for worker in sorted(workers))


def _late(cluster: Cluster, missing: set[int], timeout_s: float, why: str) -> TemporaryError:
    return TemporaryError(
        f"{len(missing)} of {cluster.num_workers} workers did not come within {timeout_s:g} s: "
        f"{_named(cluster, missing)}; {why}.",
        next_step="Look whether their machines have started and can reach the chief on this port; where machines take "
        "longer to come, set train.start_timeout_s. Then start all again.",
    )
