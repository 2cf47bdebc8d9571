"""A proxy's rules and counts over a second port, as JSON.

GET    /rules     the rules, with how many requests each has seen ("num_seen") and broken ("num_hit")
PUT    /rules     a list of rules in place of all; [] lets everything pass
POST   /rules     one rule after the others
GET    /counts    what passed, see `Counts.to_json`
DELETE /counts    counts from 0
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.proxy.proxy import Proxy
from tests.proxy.rules import Rule


@contextmanager
def control(proxy: Proxy, *, port: int = 0) -> Iterator[str]:
    """Yields the URL at which `proxy` is programmed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(proxy.counts() if self.path == "/counts" else [rule.to_json() for rule in proxy.rules])

        def do_DELETE(self) -> None:
            proxy.reset_counts()
            self._answer(proxy.counts())

        def do_PUT(self) -> None:
            self._change(lambda said: [Rule.from_json(each) for each in said])

        def do_POST(self) -> None:
            self._change(lambda said: [*proxy.rules, Rule.from_json(said)])

        def _change(self, rules: Any) -> None:
            try:
                proxy.rules = rules(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            except (ValueError, TypeError) as error:
                self._answer({"error": str(error)}, status=400)
            else:
                self._answer([rule.to_json() for rule in proxy.rules])

        def _answer(self, value: object, *, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
