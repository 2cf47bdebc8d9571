"""The XML API, as far as clients of this project use it: content, multipart uploads, listings.

`/bucket/object` paths, conditions in headers, errors in XML. obstore and `transfer_manager.upload_chunks_concurrently`
speak it. Source: https://cloud.google.com/storage/docs/xml-api/overview.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.etree import ElementTree

from job.demo.object_store.checksums import parse_hash_header, verify
from job.demo.object_store.contents import Conditions, Contents, StoredObject, integer
from job.demo.object_store.downloads import content, hash_header
from job.demo.object_store.errors import ApiError, no_such_bucket
from job.demo.object_store.listing import page
from job.demo.object_store.resource import etag, timestamp
from job.demo.object_store.wire import Request, Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MIN_PART_BYTES = 5 * 1024 * 1024
HEADERS = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
}


@dataclass
class Multipart:
    """An XML multipart upload: part number → (ETag, content)."""

    bucket: str
    name: str
    settings: dict[str, object]
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class XmlApi:
    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._uploads: dict[str, Multipart] = {}

    def answer(self, request: Request) -> Response:
        """Dispatches on the method and on which of `uploads`, `uploadId` the query has."""
        bucket, _, name = unquote(request.path[1:]).partition("/")
        method, query = request.method, request.query
        if not bucket:
            raise no_such_bucket()
        if not name:
            if method in ("GET", "HEAD"):
                return self._list(request, bucket)
        elif "uploads" in query and method == "POST":
            return self._initiate(request, bucket, name)
        elif "uploadId" in query:
            if method == "PUT":
                return self._part(request)
            if method == "POST":
                return self._complete(request)
            if method == "DELETE":
                self._multipart(query)
                del self._uploads[query["uploadId"]]
                return Response(204)
        elif method in ("GET", "HEAD"):
            stored = self._contents.get(bucket, name, query=query | self._conditions(request, bucket, name))
            return content(stored, request, tag=_tag(stored))
        elif method == "PUT":
            return self._put(request, bucket, name)
        elif method == "DELETE":
            self._contents.delete(bucket, name, query | self._conditions(request, bucket, name))
            return Response(204)
        raise ApiError(405, "methodNotAllowed", "The specified method is not allowed against this resource.")

    def _put(self, request: Request, bucket: str, name: str) -> Response:
        source_path = unquote(request.headers.get("x-goog-copy-source", "")).lstrip("/")
        conditions = Conditions.of_query(self._conditions(request, bucket, name))
        if source_path:
            from_bucket, _, from_name = source_path.partition("/")
            source = self._contents.get(from_bucket, from_name)
            settings = dict(source.settings)
            stored = self._contents.put(bucket, name, source.data, settings=settings, conditions=conditions)
            return _xml("CopyObjectResult", {"LastModified": timestamp(stored.updated_ns), "ETag": _tag(stored)})
        stored = self._contents.put(
            bucket,
            name,
            request.read(),
            settings=_settings(request),
            conditions=conditions,
            expected=_expected(request),
        )
        return Response(200, _stored_headers(stored))

    def _list(self, request: Request, bucket: str) -> Response:
        query = request.query
        with self._contents.lock:
            objects = tuple(self._contents.bucket(bucket).objects.values())
        found = page(
            objects,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            # Both mean: behind that name.
            start=query["start-after"] + "\0" if "start-after" in query else "",
            max_results=integer(query, "max-keys"),
            token=query.get("continuation-token", ""),
        )
        root = ElementTree.Element("ListBucketResult", xmlns=NAMESPACE)
        _children(root, {"Name": bucket, "Prefix": query.get("prefix", "")})
        _children(root, {"KeyCount": str(len(found.items)), "IsTruncated": str(bool(found.next_token)).lower()})
        if found.next_token:
            _children(root, {"NextContinuationToken": found.next_token})
        for stored in found.items:
            entry = ElementTree.SubElement(root, "Contents")
            _children(entry, {"Key": stored.name, "Generation": str(stored.generation)})
            _children(entry, {"LastModified": timestamp(stored.updated_ns), "ETag": _tag(stored)})
            _children(entry, {"Size": str(len(stored.data)), "StorageClass": "STANDARD"})
        for prefix in found.prefixes:
            _children(ElementTree.SubElement(root, "CommonPrefixes"), {"Prefix": prefix})
        return _document(root)

    def _initiate(self, request: Request, bucket: str, name: str) -> Response:
        self._contents.bucket(bucket)
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = Multipart(bucket, name, _settings(request))
        return _xml("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": name, "UploadId": upload_id})

    def _part(self, request: Request) -> Response:
        upload = self._multipart(request.query)
        number = integer(request.query, "partNumber") or 0
        if not 1 <= number <= 10_000:
            raise ApiError(400, "invalid", f"Invalid part number {number}; allowed: 1 to 10000.")
        data = request.read()
        crc32c, md5 = verify(data, _expected(request))
        tag = f'"{base64.b64decode(md5).hex()}"'
        upload.parts[number] = (tag, data)
        return Response(200, {"etag": tag, "x-goog-hash": f"crc32c={crc32c},md5={md5}"})

    def _complete(self, request: Request) -> Response:
        upload = self._multipart(request.query)
        pieces = []
        for part in ElementTree.fromstring(request.read()).iter():
            if part.tag.rpartition("}")[2] != "Part":
                continue
            values = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
            tag, data = upload.parts.get(int(values["PartNumber"]), ("", b""))
            if not tag or tag.strip('"') != values["ETag"].strip('"'):
                raise ApiError(400, "invalidPart", "One or more of the specified parts could not be found.")
            pieces.append(data)
        if any(len(piece) < MIN_PART_BYTES for piece in pieces[:-1]):
            raise ApiError(400, "entityTooSmall", "Your proposed upload is smaller than the minimum allowed part size.")
        stored = self._contents.put(
            upload.bucket,
            upload.name,
            b"".join(pieces),
            settings=upload.settings,
            conditions=Conditions.of_query(self._conditions(request, upload.bucket, upload.name)),
            has_md5=False,
        )
        self._uploads.pop(request.query["uploadId"], None)
        fields = {"Bucket": upload.bucket, "Key": upload.name, "ETag": _tag(stored)}
        return _xml("CompleteMultipartUploadResult", fields, _stored_headers(stored))

    def _conditions(self, request: Request, bucket: str, name: str) -> dict[str, str]:
        """Returns the conditions in the JSON API's words; S3's If-Match and If-None-Match speak of the ETag."""
        words = {
            "x-goog-if-generation-match": "ifGenerationMatch",
            "x-goog-if-metageneration-match": "ifMetagenerationMatch",
        }
        found = {word: request.headers[header] for header, word in words.items() if header in request.headers}
        if request.method == "PUT" and request.headers.get("if-none-match") == "*":
            found["ifGenerationMatch"] = "0"
        if tag := request.headers.get("if-match"):
            live = self._contents.bucket(bucket).objects.get(name)
            # A generation that no object has: the condition is checked where the object is replaced.
            found["ifGenerationMatch"] = str(live.generation if live and _tag(live) == tag else -1)
        return found

    def _multipart(self, query: dict[str, str]) -> Multipart:
        try:
            return self._uploads[query["uploadId"]]
        except KeyError:
            raise ApiError(404, "noSuchUpload", "The requested upload was not found.") from None


def _settings(request: Request) -> dict[str, object]:
    settings: dict[str, object] = {"contentType": "application/octet-stream"}
    settings |= {key: request.headers[header] for header, key in HEADERS.items() if header in request.headers}
    mark = "x-goog-meta-"
    if metadata := {key[len(mark) :]: value for key, value in request.headers.items() if key.startswith(mark)}:
        settings["metadata"] = metadata
    return settings


def _expected(request: Request) -> dict[str, str]:
    stated = {"md5Hash": request.headers["content-md5"]} if "content-md5" in request.headers else {}
    return stated | parse_hash_header(request.headers.get("x-goog-hash", ""))


def _tag(stored: StoredObject) -> str:
    """Returns the MD5 in hex where there is one, as the XML API does."""
    return f'"{base64.b64decode(stored.md5).hex() if stored.md5 else etag(stored)}"'


def _stored_headers(stored: StoredObject) -> dict[str, str]:
    return {
        "etag": _tag(stored),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": hash_header(stored),
    }


def _xml(tag: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Response:
    root = ElementTree.Element(tag, xmlns=NAMESPACE)
    _children(root, fields)
    return _document(root, headers)


def _children(parent: ElementTree.Element, fields: dict[str, str]) -> None:
    for tag, text in fields.items():
        ElementTree.SubElement(parent, tag).text = text


def _document(root: ElementTree.Element, headers: dict[str, str] | None = None) -> Response:
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(200, {"content-type": "application/xml; charset=UTF-8", **(headers or {})}, body)
