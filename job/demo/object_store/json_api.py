"""Buckets and objects through the JSON API, except for uploads and content.

Source: https://cloud.google.com/storage/docs/json_api/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from job.demo.object_store.contents import SETTINGS, Conditions, Contents, StoredObject, integer
from job.demo.object_store.downloads import content
from job.demo.object_store.errors import ApiError
from job.demo.object_store.listing import page
from job.demo.object_store.resource import of_bucket, of_object, parse_fields, select
from job.demo.object_store.uploads import json_object
from job.demo.object_store.wire import Request, Response

MAX_SOURCES = 32


def _json(request: Request, value: dict[str, Any]) -> Response:
    fields = request.query.get("fields")
    return Response.of_json(select(value, parse_fields(fields)) if fields else value)


def create_bucket(contents: Contents, request: Request) -> Response:
    description = json_object(request.read())
    if "name" not in description:
        raise ApiError(400, "required", "Required")
    return _json(request, of_bucket(contents.create_bucket(str(description["name"]), description), request.base_url))


def list_buckets(contents: Contents, request: Request) -> Response:
    prefix = request.query.get("prefix", "")
    with contents.lock:
        buckets = [contents.buckets[name] for name in sorted(contents.buckets) if name.startswith(prefix)]
    return _json(request, {"kind": "storage#buckets", "items": [of_bucket(each, request.base_url) for each in buckets]})


def get_bucket(contents: Contents, request: Request, bucket: str) -> Response:
    return _json(request, of_bucket(contents.bucket(bucket), request.base_url))


def patch_bucket(contents: Contents, request: Request, bucket: str) -> Response:
    description = json_object(request.read())
    with contents.lock:
        found = contents.bucket(bucket)
        found.settings = _merged(found.settings, description)
        found.metageneration += 1
    return _json(request, of_bucket(found, request.base_url))


def delete_bucket(contents: Contents, request: Request, bucket: str) -> Response:
    with contents.lock:
        if contents.bucket(bucket).objects:
            raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
        del contents.buckets[bucket]
    return Response(204)


def test_permissions(contents: Contents, request: Request, bucket: str) -> Response:
    """Everybody may do everything here."""
    contents.bucket(bucket)
    asked = parse_qs(request.target.partition("?")[2]).get("permissions", [])
    return Response.of_json({"kind": "storage#testIamPermissionsResponse", "permissions": asked})


def list_objects(contents: Contents, request: Request, bucket: str) -> Response:
    query = request.query
    with contents.lock:
        objects = tuple(contents.bucket(bucket).objects.values())
    found = page(
        objects,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        start=query.get("startOffset", ""),
        end=query.get("endOffset", ""),
        glob=query.get("matchGlob", ""),
        has_trailing_delimiter=query.get("includeTrailingDelimiter", "").lower() == "true",
        max_results=integer(query, "maxResults"),
        token=query.get("pageToken", ""),
    )
    reply: dict[str, Any] = {"kind": "storage#objects"}
    if found.next_token:
        reply["nextPageToken"] = found.next_token
    if found.prefixes:
        reply["prefixes"] = found.prefixes
    if found.items:
        reply["items"] = [of_object(each, request.base_url) for each in found.items]
    return _json(request, reply)


def get_object(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    stored = contents.get(bucket, name, query=request.query)
    if request.query.get("alt") == "media":
        return content(stored, request, tag=None)
    return _object(request, stored)


def patch_object(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    description = _writable(json_object(request.read()))
    return _object(request, contents.change(bucket, name, request.query, lambda old: _merged(old, description)))


def update_object(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    description = _writable(json_object(request.read()))
    return _object(request, contents.change(bucket, name, request.query, lambda _: _merged({}, description)))


def delete_object(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    contents.delete(bucket, name, request.query)
    return Response(204)


def compose(contents: Contents, request: Request, bucket: str, name: str) -> Response:
    """Joins objects of one bucket; the result has no MD5, only a crc32c."""
    description = json_object(request.read())
    parts = description.get("sourceObjects") or []
    if not 1 <= len(parts) <= MAX_SOURCES:
        raise ApiError(400, "invalid", f"Received {len(parts)} source components; allowed: 1 to {MAX_SOURCES}.")
    sources = []
    for part in parts:
        query = {"generation": part["generation"]} if "generation" in part else {}
        source = contents.get(bucket, str(part.get("name", "")), query=query)
        Conditions.of_query(part.get("objectPreconditions", {})).check(source)
        sources.append(source)
    stored = contents.put(
        bucket,
        name,
        b"".join(source.data for source in sources),
        settings=description.get("destination", {}),
        conditions=Conditions.of_query(request.query),
        has_md5=False,
        num_components=sum(source.num_components or 1 for source in sources),
    )
    return _object(request, stored)


def copy(contents: Contents, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
    return _object(request, _copied(contents, request, bucket, name, to_bucket, to_name))


def rewrite(contents: Contents, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Response:
    """Copies in one call, as Cloud Storage does within a location and storage class."""
    stored = _copied(contents, request, bucket, name, to_bucket, to_name)
    size = str(len(stored.data))
    return _json(
        request,
        {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": True,
            "resource": of_object(stored, request.base_url),
        },
    )


def _copied(contents: Contents, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> StoredObject:
    source = contents.get(bucket, name, query=request.query, prefix="source")
    return contents.put(
        to_bucket,
        to_name,
        source.data,
        settings=_writable(json_object(request.read())) or source.settings,
        conditions=Conditions.of_query(request.query),
        has_md5=source.md5 is not None,
        num_components=source.num_components,
    )


def _object(request: Request, stored: StoredObject) -> Response:
    return _json(request, of_object(stored, request.base_url))


def _writable(description: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key in SETTINGS}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `old` patched with `new` (RFC 7396): null removes, objects are merged."""
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged
