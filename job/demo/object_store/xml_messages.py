"""What the XML API's requests and answers have in common: settings and conditions in headers, ETags, documents."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from xml.etree import ElementTree

from job.demo.object_store.checksums import parse_hash_header
from job.demo.object_store.contents import Contents, StoredObject
from job.demo.object_store.downloads import hash_header
from job.demo.object_store.resource import etag
from job.demo.object_store.wire import Request, Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HEADERS = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
}


def conditions_of(request: Request, contents: Contents, bucket: str, name: str) -> dict[str, str]:
    """Returns the conditions in the JSON API's words; S3's If-Match and If-None-Match speak of the ETag."""
    words = {
        "x-goog-if-generation-match": "ifGenerationMatch",
        "x-goog-if-metageneration-match": "ifMetagenerationMatch",
    }
    found = {word: request.headers[header] for header, word in words.items() if header in request.headers}
    if request.method in ("PUT", "POST") and request.headers.get("if-none-match") == "*":
        found["ifGenerationMatch"] = "0"
    if tag := request.headers.get("if-match"):
        live = contents.bucket(bucket).objects.get(name)
        # A generation that no object has: the condition is checked where the object is replaced.
        found["ifGenerationMatch"] = str(live.generation if live and tag_of(live) == tag else -1)
    return found


def settings_of(request: Request) -> dict[str, object]:
    settings: dict[str, object] = {"contentType": "application/octet-stream"}
    settings |= {key: request.headers[header] for header, key in HEADERS.items() if header in request.headers}
    mark = metadata_mark(request)
    if metadata := {key[len(mark) :]: value for key, value in request.headers.items() if key.startswith(mark)}:
        settings["metadata"] = metadata
    return settings


def metadata_mark(request: Request) -> str:
    """Returns what names of metadata begin with: Amazon's word where the request is signed Amazon's way.

    Source: https://cloud.google.com/storage/docs/interoperability.
    """
    return "x-amz-meta-" if request.headers.get("authorization", "").startswith("AWS4-") else "x-goog-meta-"


def metadata_headers(stored: StoredObject, request: Request) -> dict[str, str]:
    metadata = stored.settings.get("metadata")
    mark = metadata_mark(request)
    return {f"{mark}{key}": value for key, value in metadata.items()} if isinstance(metadata, Mapping) else {}


def expected(request: Request) -> dict[str, str]:
    stated = {"md5Hash": request.headers["content-md5"]} if "content-md5" in request.headers else {}
    return stated | parse_hash_header(request.headers.get("x-goog-hash", ""))


def tag_of(stored: StoredObject) -> str:
    """Returns the MD5 in hex where there is one, as the XML API does."""
    return f'"{base64.b64decode(stored.md5).hex() if stored.md5 else etag(stored)}"'


def stored_headers(stored: StoredObject) -> dict[str, str]:
    return {
        "etag": tag_of(stored),
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": hash_header(stored),
    }


def message(tag: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Response:
    root = ElementTree.Element(tag, xmlns=NAMESPACE)
    children(root, fields)
    return document(root, headers)


def children(parent: ElementTree.Element, fields: dict[str, str]) -> None:
    for tag, text in fields.items():
        ElementTree.SubElement(parent, tag).text = text


def document(root: ElementTree.Element, headers: dict[str, str] | None = None) -> Response:
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(200, {"content-type": "application/xml; charset=UTF-8", **(headers or {})}, body)
