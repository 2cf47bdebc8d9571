"""Buckets and objects as the JSON API describes them, whole or only the `fields` asked for.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource, …/buckets#resource, and
https://cloud.google.com/storage/docs/json_api#partial-response.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from job.demo.object_store.contents import Bucket, StoredObject
from job.demo.object_store.errors import ApiError


def timestamp(time_ns: int) -> str:
    """Returns RFC 3339 with milliseconds, as the JSON API writes it."""
    moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def etag(stored: StoredObject) -> str:
    """Returns a word that changes with the content and with the metadata."""
    return base64.b64encode(f"{stored.generation}/{stored.metageneration}".encode()).decode()


def of_bucket(bucket: Bucket, base_url: str) -> dict[str, Any]:
    return {
        "location": "US",
        "storageClass": "STANDARD",
        **bucket.settings,
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "selfLink": f"{base_url}/storage/v1/b/{bucket.name}",
        "projectNumber": "0",
        "metageneration": str(bucket.metageneration),
        "etag": base64.b64encode(str(bucket.metageneration).encode()).decode(),
        "locationType": "multi-region",
        "timeCreated": timestamp(bucket.created_ns),
        "updated": timestamp(bucket.created_ns),
    }


def of_object(stored: StoredObject, base_url: str) -> dict[str, Any]:
    """Describes one object. 64-bit numbers are strings; links lead back to where the client came from."""
    path = f"b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    fields: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{base_url}/storage/v1/{path}",
        "mediaLink": f"{base_url}/download/storage/v1/{path}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "storageClass": "STANDARD",
        **stored.settings,
        "size": str(len(stored.data)),
        "crc32c": stored.crc32c,
        "etag": etag(stored),
        "timeCreated": timestamp(stored.created_ns),
        "updated": timestamp(stored.updated_ns),
        "timeStorageClassUpdated": timestamp(stored.created_ns),
        "timeFinalized": timestamp(stored.created_ns),
    }
    if stored.md5 is not None:
        fields["md5Hash"] = stored.md5
    if stored.num_components is not None:
        fields["componentCount"] = stored.num_components
    return fields


Mask = dict[str, "Mask"]
"""Field → the fields wanted of it; {} is all of them."""


def parse_fields(text: str) -> Mask:
    """Reads `items(name,size),nextPageToken` or `items/name`.

    Raises:
        ApiError: 400 when the parentheses do not match.
    """
    mask, rest = _parse_list(text)
    if rest:
        raise ApiError(400, "invalidParameter", f"Invalid field selection {text}")
    return mask


def _parse_list(text: str) -> tuple[Mask, str]:
    mask: Mask = {}
    while True:
        field, text = _parse_field(text)
        for name, inner in field.items():
            mask[name] = mask.get(name, {}) | inner
        if not text.startswith(","):
            return mask, text
        text = text[1:]


def _parse_field(text: str) -> tuple[Mask, str]:
    end = next((index for index, letter in enumerate(text) if letter in ",()/"), len(text))
    name, text = text[:end].strip(), text[end:]
    inner: Mask = {}
    if text.startswith("/"):
        inner, text = _parse_field(text[1:])
    elif text.startswith("("):
        inner, text = _parse_list(text[1:])
        if not text.startswith(")"):
            raise ApiError(400, "invalidParameter", f"Invalid field selection {name}(")
        text = text[1:]
    return {name: inner}, text


def select(value: Any, mask: Mask) -> Any:
    """Returns the part of a JSON value that `mask` asks for."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [select(item, mask) for item in value]
    if isinstance(value, dict):
        return {key: select(item, mask[key]) for key, item in value.items() if key in mask}
    return value
