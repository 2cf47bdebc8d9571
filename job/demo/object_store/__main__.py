"""`python -m job.demo.object_store --port 0 --folder DIR`: prints its URL, serves until it is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from job.demo.object_store import ObjectStore
from job.errors import JobError


def main() -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m job.demo.object_store", description="A small GCS server.")
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="its folders become buckets, the files below them objects")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ObjectStore(arguments.folder, host=arguments.host, port=arguments.port) as store:
            print(store.url, flush=True)
            stop.wait()
    except JobError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
