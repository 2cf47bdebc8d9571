"""What passed through a proxy: requests, faults, and the bytes of object content that were sent a second time."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from typing import Any

from job.demo.object_store.faults import Fault
from job.demo.object_store.wire import Request, Response

_LISTING = re.compile(r"[?&](list-type|comp|restype|uploads?|prefix|delimiter|fields)\b")


def content_of(request: Request, response: Response) -> tuple[str, int] | None:
    """Returns (which version of which object, first byte) where a response carries an object's content."""
    if request.method != "GET" or response.status not in (200, 206):
        return None
    is_json_api = "/storage/v1/" in request.path
    is_media = "alt=media" in request.target
    if (is_json_api and not is_media) or (not is_json_api and _LISTING.search(request.target)):
        return None
    headers = {key.lower(): value for key, value in response.headers.items()}
    version = headers.get("x-goog-generation") or headers.get("etag", "")
    found = re.match(r"bytes (\d+)-", headers.get("content-range", ""))
    # The JSON API has one object under two paths.
    return f"{request.path.removeprefix('/download')}#{version}", int(found[1]) if found else 0


class Counts:
    """Thread-safe sums since the start or the last `reset`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._requests: Counter[str] = Counter()
            self._faults: Counter[str] = Counter()
            self._sent: dict[str, list[tuple[int, int]]] = defaultdict(list)
            self._num_content = self._num_again = self._num_uploaded = 0

    def request(self, method: str, num_body_bytes: int, fault: Fault | None) -> None:
        with self._lock:
            self._requests[method] += 1
            self._num_uploaded += num_body_bytes
            if fault is not None:
                self._faults[type(fault).__name__] += 1

    def content(self, key: str, first: int, num_bytes: int) -> None:
        """Notes that bytes `first` to `first + num_bytes` of an object were sent."""
        with self._lock:
            end, spans = first + num_bytes, self._sent[key]
            self._num_content += num_bytes
            self._num_again += sum(max(0, min(end, stop) - max(first, start)) for start, stop in spans)
            # Spans stay apart from each other, so that no byte is counted twice for one sending.
            touching = [span for span in spans if span[0] <= end and first <= span[1]]
            merged = (min([first, *(start for start, _ in touching)]), max([end, *(stop for _, stop in touching)]))
            self._sent[key] = [span for span in spans if span not in touching] + [merged]

    def to_json(self) -> dict[str, Any]:
        """Returns {"requests", "faults", "content_bytes", "content_bytes_again", "objects", "upload_bytes"}."""
        with self._lock:
            return {
                "requests": dict(self._requests),
                "faults": dict(self._faults),
                "content_bytes": self._num_content,
                "content_bytes_again": self._num_again,
                "objects": len(self._sent),
                "upload_bytes": self._num_uploaded,
            }
