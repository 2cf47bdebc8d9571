"""The content of an object on its way out: hashes, ranges, gzip.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers (x-goog-…),
https://cloud.google.com/storage/docs/transcoding.
"""

from __future__ import annotations

import re
import zlib
from email.utils import formatdate

from job.demo.object_store.contents import Contents, StoredObject
from job.demo.object_store.errors import ApiError
from job.demo.object_store.resource import etag
from job.demo.object_store.wire import Request, Response

RANGE = re.compile(r"bytes=(\d*)-(\d*)")
PLAIN_HEADERS = {
    "cacheControl": "cache-control",
    "contentDisposition": "content-disposition",
    "contentLanguage": "content-language",
}


def media(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    return content(contents.get(bucket, name, query=request.query), request, tag=None)


def content(stored: StoredObject, request: Request, *, tag: str | None) -> Response:
    """Answers with the content, the asked part of it, or its decompressed form.

    Args:
        tag: The ETag where it is not the JSON API's.
    """
    headers = _headers(stored, tag)
    data = memoryview(stored.data)
    if stored.settings.get("contentEncoding") == "gzip":
        is_fixed = "no-transform" in str(stored.settings.get("cacheControl", ""))
        if not is_fixed and "gzip" not in request.headers.get("accept-encoding", ""):
            # The length after decompression is not known beforehand, and ranges are ignored.
            headers["warning"] = "214 UploadServer gunzipped"
            return Response(200, headers, gunzip(stored.data), is_chunked=True)
        headers["content-encoding"] = "gzip"
    span = byte_range(request.headers.get("range", ""), len(data))
    if span is None:
        return Response(200, headers, data)
    start, stop = span
    headers["content-range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(206, headers, data[start:stop])


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Returns [start, stop) of `bytes=a-b`, `a-` or `-n`; None for no range or one to be ignored (RFC 9110, 14.2).

    Raises:
        ApiError: 416 when no byte of the object is in it.
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise ApiError(
            416,
            "requestedRangeNotSatisfiable",
            "The requested range cannot be satisfied.",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, stop


def gunzip(data: bytes | bytearray) -> bytes:
    """Returns the decompressed content, or `data` where it is no gzip whatever its label says."""
    try:
        return zlib.decompress(data, wbits=31)
    except zlib.error:
        return bytes(data)


def hash_header(stored: StoredObject) -> str:
    return f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")


def _headers(stored: StoredObject, tag: str | None) -> dict[str, str]:
    """Returns the headers of the whole object; they stay those of the whole for a range of it."""
    headers = {
        "content-type": str(stored.settings.get("contentType", "application/octet-stream")),
        "accept-ranges": "bytes",
        "etag": tag or etag(stored),
        "last-modified": formatdate(stored.updated_ns / 1e9, usegmt=True),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": hash_header(stored),
        "x-goog-storage-class": str(stored.settings.get("storageClass", "STANDARD")),
        "x-goog-stored-content-encoding": str(stored.settings.get("contentEncoding", "identity")),
        "x-goog-stored-content-length": str(len(stored.data)),
    }
    for key, header in PLAIN_HEADERS.items():
        if key in stored.settings:
            headers[header] = str(stored.settings[key])
    return headers
