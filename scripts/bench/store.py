"""The project's object store in a process of its own, as slow as asked for; prints its URL and serves until its end.

Latency is the silence before an answer's first byte, slept in the thread of the connection: other connections go on.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Fault, Stall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="its folders become buckets")
    parser.add_argument("--latency-s", type=float, default=0.0)
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def slow(method: str, target: str, headers: object) -> Fault:
        return Stall(given.latency_s)

    with ObjectStore(given.folder, fault=slow if given.latency_s else None) as store:
        print(store.url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
