"""Several requests of the JSON API in one.

Source: https://cloud.google.com/storage/docs/batch.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser

from job.demo.object_store.errors import ApiError
from job.demo.object_store.wire import PHRASES, Request, Response


def run(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Answers every part by itself, in order; one that fails does not stop the others."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + request.read()).get_payload()
    if not isinstance(parts, list):
        raise ApiError(400, "badRequest", "Failed to parse batch request, error: Failed in parsing http headers")
    boundary = f"batch_{uuid.uuid4().hex}"
    replies = []
    for part in parts:
        assert isinstance(part, Message)
        payload = part.get_payload(decode=True)
        reply = answer(_request(payload if isinstance(payload, bytes) else b"", request))
        content_id = part.get("Content-ID", "").strip("<>")
        replies.append(
            f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
            + (f"Content-ID: <response-{content_id}>\r\n".encode() if content_id else b"")
            + f"\r\nHTTP/1.1 {reply.status} {PHRASES.get(reply.status, '')}\r\n".encode()
            + "".join(f"{key}: {value}\r\n" for key, value in reply.headers.items()).encode()
            + f"Content-Length: {len(reply.body)}\r\n\r\n".encode()
            + bytes(reply.body)
            + b"\r\n"
        )
    body = b"".join(replies) + f"--{boundary}--\r\n".encode()
    return Response(200, {"content-type": f"multipart/mixed; boundary={boundary}"}, body)


def _request(payload: bytes, outer: Request) -> Request:
    head, _, body = payload.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = head.decode().split("\n")
    method, _, rest = lines[0].partition(" ")
    url = rest.rpartition(" ")[0] or rest
    # Parts name the path alone or the whole URL.
    target = "/" + url.split("/", 3)[3] if "://" in url else url
    headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    headers["host"] = outer.headers.get("host", "")
    return Request(method, target, headers, iter((body,)))
