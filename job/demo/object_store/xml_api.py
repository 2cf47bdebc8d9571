"""The XML API, as far as clients of this project use it: content, multipart uploads, listings.

`/bucket/object` paths, conditions in headers, errors in XML. boto3 and `transfer_manager.upload_chunks_concurrently`
speak it. Source: https://cloud.google.com/storage/docs/xml-api/overview.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

from job.demo.object_store.contents import Conditions, Contents, integer
from job.demo.object_store.downloads import content
from job.demo.object_store.errors import ApiError, no_such_bucket
from job.demo.object_store.listing import page
from job.demo.object_store.resource import timestamp
from job.demo.object_store.wire import Request, Response
from job.demo.object_store.xml_messages import (
    NAMESPACE,
    children,
    conditions_of,
    document,
    expected,
    message,
    metadata_headers,
    settings_of,
    stored_headers,
    tag_of,
)
from job.demo.object_store.xml_uploads import XmlUploads


class XmlApi:
    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._uploads = XmlUploads(contents)

    def answer(self, request: Request) -> Response:
        """Dispatches on the method and on which of `uploads`, `uploadId` the query has."""
        bucket, _, name = unquote(request.path[1:]).partition("/")
        method, query = request.method, request.query
        if not bucket:
            raise no_such_bucket()
        if query.keys() & {"uploads", "uploadId"}:
            return self._uploads.answer(request, bucket, name)
        if not name:
            if method in ("GET", "HEAD"):
                return self._list(request, bucket)
        elif method in ("GET", "HEAD"):
            conditions = conditions_of(request, self._contents, bucket, name)
            stored = self._contents.get(bucket, name, query=query | conditions)
            answer = content(stored, request, tag=tag_of(stored))
            return replace(answer, headers={**answer.headers, **metadata_headers(stored, request)})
        elif method == "PUT":
            return self._put(request, bucket, name)
        elif method == "DELETE":
            self._contents.delete(bucket, name, query | conditions_of(request, self._contents, bucket, name))
            return Response(204)
        raise ApiError(405, "methodNotAllowed", "The specified method is not allowed against this resource.")

    def _put(self, request: Request, bucket: str, name: str) -> Response:
        source_path = unquote(request.headers.get("x-goog-copy-source", "")).lstrip("/")
        conditions = Conditions.of_query(conditions_of(request, self._contents, bucket, name))
        if source_path:
            from_bucket, _, from_name = source_path.partition("/")
            source = self._contents.get(from_bucket, from_name)
            settings = dict(source.settings)
            stored = self._contents.put(bucket, name, source.data, settings=settings, conditions=conditions)
            return message("CopyObjectResult", {"LastModified": timestamp(stored.updated_ns), "ETag": tag_of(stored)})
        stored = self._contents.put(
            bucket,
            name,
            request.read(),
            settings=settings_of(request),
            conditions=conditions,
            expected=expected(request),
        )
        return Response(200, stored_headers(stored))

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
        children(root, {"Name": bucket, "Prefix": query.get("prefix", "")})
        children(root, {"KeyCount": str(len(found.items)), "IsTruncated": str(bool(found.next_token)).lower()})
        if found.next_token:
            children(root, {"NextContinuationToken": found.next_token})
        for stored in found.items:
            entry = ElementTree.SubElement(root, "Contents")
            children(entry, {"Key": stored.name, "Generation": str(stored.generation)})
            children(entry, {"LastModified": timestamp(stored.updated_ns), "ETag": tag_of(stored)})
            children(entry, {"Size": str(len(stored.data)), "StorageClass": "STANDARD"})
        for prefix in found.prefixes:
            children(ElementTree.SubElement(root, "CommonPrefixes"), {"Prefix": prefix})
        return document(root)
