"""`python -m tests.proxy --target URL`: prints one line {"url", "control"}, breaks things until it is stopped."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from tests.proxy.control import control
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Rule


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proxy",
        description="A proxy that breaks what passes through it. Its rules come from --rules or over the control port.",
    )
    parser.add_argument("--target", required=True, help="the store: http://host:port")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="of the rules' shares")
    parser.add_argument("--rules", type=Path, help="a JSON file with a list of rules, see tests/proxy/rules.py")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Proxy(arguments.target, port=arguments.port, seed=arguments.seed) as proxy:
        if arguments.rules:
            proxy.rules = [Rule.from_json(each) for each in json.loads(arguments.rules.read_text())]
        with control(proxy, port=arguments.control_port) as url:
            print(json.dumps({"url": proxy.url, "control": url}), flush=True)
            stop.wait()


if __name__ == "__main__":
    main()
