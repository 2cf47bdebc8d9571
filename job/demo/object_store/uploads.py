"""Objects on their way in: media, multipart and resumable uploads.

Source: https://cloud.google.com/storage/docs/performing-resumable-uploads and
https://cloud.google.com/storage/docs/uploads-downloads.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from job.demo.object_store.checksums import parse_hash_header
from job.demo.object_store.contents import Conditions, Contents, StoredObject
from job.demo.object_store.errors import ApiError
from job.demo.object_store.resource import of_object
from job.demo.object_store.wire import Request, Response

QUANTUM_BYTES = 256 * 1024
CONTENT_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+|\*))/(\d+|\*)")


@dataclass
class Session:
    """A resumable upload.

    Attributes:
        data: What has arrived, without gaps.
        stored: The object, once it is complete.
    """

    bucket: str
    name: str
    settings: dict[str, Any]
    conditions: Conditions
    expected: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    stored: StoredObject | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Uploads:
    """The three ways to upload, and the resumable uploads under way."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._sessions: dict[str, Session] = {}

    def start(self, request: Request, bucket: str) -> Response:
        """Handles `POST /upload/…/o`: stores the object, or opens a resumable upload."""
        self._contents.bucket(bucket)
        kind = request.query.get("uploadType")
        if kind == "resumable":
            return self._open(request, bucket)
        if kind == "multipart":
            description, data, content_type = _multipart(request)
        elif kind == "media":
            description, data, content_type = {}, request.read(), request.headers.get("content-type")
        else:
            raise ApiError(400, "invalid", f"Invalid uploadType {kind!r}; allowed: media, multipart, resumable.")
        stored = self._contents.put(
            bucket,
            _name(request, description),
            data,
            settings=_settings(request, description, content_type),
            conditions=Conditions.of_query(request.query),
            expected=_expected(request, description),
        )
        return Response.of_json(of_object(stored, request.base_url))

    def _open(self, request: Request, bucket: str) -> Response:
        description = json_object(request.read())
        name = _name(request, description)
        session = Session(
            bucket,
            name,
            _settings(request, description, request.headers.get("x-upload-content-type")),
            Conditions.of_query(request.query),
            _expected(request, description),
        )
        session.conditions.check(self._contents.bucket(bucket).objects.get(name))
        upload_id = uuid.uuid4().hex
        self._sessions[upload_id] = session
        separator = "&" if "?" in request.target else "?"
        location = f"{request.base_url}{request.target}{separator}upload_id={upload_id}"
        return Response(200, {"location": location, "x-guploader-uploadid": upload_id})

    def resume(self, request: Request, bucket: str) -> Response:
        """Handles `PUT /upload/…/o?upload_id=…`: a chunk, the whole, or the question how much has arrived."""
        upload_id, session = self._session(request)
        with session.lock:
            if session.stored is None:
                if not _append(session, request):
                    return _incomplete(session)
                try:
                    session.stored = self._finish(session, request)
                except ApiError:
                    self._sessions.pop(upload_id, None)
                    raise
            return Response.of_json(of_object(session.stored, request.base_url))

    def cancel(self, request: Request, bucket: str) -> Response:
        """Handles `DELETE`; 499 is what Cloud Storage answers to it."""
        upload_id, _ = self._session(request)
        self._sessions.pop(upload_id, None)
        return Response(499)

    def _session(self, request: Request) -> tuple[str, Session]:
        upload_id = request.query.get("upload_id", "")
        try:
            return upload_id, self._sessions[upload_id]
        except KeyError:
            raise ApiError(404, "noSuchUpload", f"No such upload: {upload_id!r}") from None

    def _finish(self, session: Session, request: Request) -> StoredObject:
        data, session.data = session.data, bytearray()
        return self._contents.put(
            session.bucket,
            session.name,
            data,
            settings=session.settings,
            conditions=session.conditions,
            expected=session.expected | parse_hash_header(request.headers.get("x-goog-hash", "")),
        )


def _append(session: Session, request: Request) -> bool:
    """Takes in one chunk; returns whether the object is complete.

    Bytes that have arrived before are skipped. Of a chunk that is not the last, or breaks off, whole
    256 KiB are kept: the client asks and goes on from there.
    """
    header = request.headers.get("content-range", "bytes 0-*/*" if "content-length" in request.headers else "bytes */*")
    match = CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise ApiError(400, "invalid", f"Failed to parse Content-Range header: {header!r}")
    total = int(match[3]) if match[3] != "*" else None
    if match[1] is None:
        return total is not None and total == len(session.data)
    if "content-range" not in request.headers:
        total = int(request.headers["content-length"])
    start = int(match[1])
    if start > len(session.data):
        raise ApiError(400, "invalid", f"{len(session.data)} bytes have arrived, this chunk starts at {start}.")
    skip = len(session.data) - start
    try:
        for block in request.blocks:
            session.data += block[skip:]
            skip = max(0, skip - len(block))
        if total is not None and len(session.data) > total:
            raise ApiError(400, "invalid", f"{len(session.data)} bytes have arrived, announced were {total}.")
    finally:
        if len(session.data) != total:
            del session.data[len(session.data) // QUANTUM_BYTES * QUANTUM_BYTES :]
    return len(session.data) == total


def _incomplete(session: Session) -> Response:
    return Response(308, {"range": f"bytes=0-{len(session.data) - 1}"} if session.data else {})


def _multipart(request: Request) -> tuple[dict[str, Any], bytes, str | None]:
    """Splits multipart/related into the object's description, its content and the content's type (RFC 2387)."""
    match = re.search(r"boundary=(?:\"([^\"]+)\"|'([^']+)'|([^;\s]+))", request.headers.get("content-type", ""))
    body = request.read()
    try:
        if match is None:
            raise ValueError("no boundary")
        mark = b"--" + (match[1] or match[2] or match[3]).encode()
        first = body.index(b"\r\n\r\n", body.index(mark)) + 4
        second_mark = body.index(b"\r\n" + mark, first)
        second = body.index(b"\r\n\r\n", second_mark + 2) + 4
        # From the end: the content may be anything.
        end = body.rindex(b"\r\n" + mark + b"--", second - 2)
    except ValueError:
        raise ApiError(400, "badContent", "Malformed multipart body.") from None
    found = re.search(rb"(?i)content-type:\s*([^\r\n]+)", body[second_mark:second])
    return json_object(body[first:second_mark]), body[second:end], found[1].decode("latin-1") if found else None


def json_object(body: bytes) -> dict[str, Any]:
    """Reads a request's JSON; nothing counts as {}."""
    try:
        value = json.loads(body) if body.strip() else {}
    except ValueError:
        raise ApiError(400, "parseError", "Parse Error") from None
    if not isinstance(value, dict):
        raise ApiError(400, "parseError", "Parse Error")
    return value


def _name(request: Request, description: dict[str, Any]) -> str:
    name = request.query.get("name") or description.get("name")
    if not name:
        raise ApiError(400, "required", "Required")
    return str(name)


def _settings(request: Request, description: dict[str, Any], content_type: str | None) -> dict[str, Any]:
    settings = {"contentType": content_type or "application/octet-stream", **description}
    if "contentEncoding" in request.query:
        settings["contentEncoding"] = request.query["contentEncoding"]
    return settings


def _expected(request: Request, description: dict[str, Any]) -> dict[str, str]:
    stated = {key: str(description[key]) for key in ("crc32c", "md5Hash") if description.get(key)}
    return stated | parse_hash_header(request.headers.get("x-goog-hash", ""))
