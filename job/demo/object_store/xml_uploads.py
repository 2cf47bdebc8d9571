"""Uploads in parts through the XML API: begun, listed, completed under a condition, or given up.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html, which
https://cloud.google.com/storage/docs/xml-api/post-object-multipart follows. A condition on an ETag when an upload is
completed is Amazon's alone; it is kept here, since the job's `s3://` is tested against this server.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from xml.etree import ElementTree

from job.demo.object_store.checksums import verify
from job.demo.object_store.contents import Conditions, Contents, integer
from job.demo.object_store.errors import ApiError
from job.demo.object_store.wire import Request, Response
from job.demo.object_store.xml_messages import (
    NAMESPACE,
    children,
    conditions_of,
    document,
    expected,
    message,
    settings_of,
    stored_headers,
    tag_of,
)

MIN_PART_BYTES = 5 * 1024 * 1024
MAX_PARTS = 1000
"""Of one page of a list."""


@dataclass
class Multipart:
    """An unfinished upload: part number → (ETag, content)."""

    bucket: str
    name: str
    settings: dict[str, object]
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class XmlUploads:
    """The unfinished uploads of all buckets."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._uploads: dict[str, Multipart] = {}

    def answer(self, request: Request, bucket: str, name: str) -> Response:
        """Answers a request whose query has `uploads` or `uploadId`."""
        if "uploads" in request.query and request.method == ("POST" if name else "GET"):
            return self._initiate(request, bucket, name) if name else self._list(request, bucket)
        if "uploadId" in request.query:
            if request.method == "PUT":
                return self._part(request)
            if request.method == "POST":
                return self._complete(request)
            if request.method == "GET":
                return self._list_parts(request)
            if request.method == "DELETE":
                self._upload(request)
                del self._uploads[request.query["uploadId"]]
                return Response(204)
        raise ApiError(405, "methodNotAllowed", "The specified method is not allowed against this resource.")

    def _initiate(self, request: Request, bucket: str, name: str) -> Response:
        self._contents.bucket(bucket)
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = Multipart(bucket, name, settings_of(request))
        return message("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": name, "UploadId": upload_id})

    def _list(self, request: Request, bucket: str) -> Response:
        self._contents.bucket(bucket)
        root = ElementTree.Element("ListMultipartUploadsResult", xmlns=NAMESPACE)
        children(root, {"Bucket": bucket, "IsTruncated": "false"})
        for upload_id, upload in sorted(self._uploads.items(), key=lambda each: each[1].name):
            if upload.bucket == bucket and upload.name.startswith(request.query.get("prefix", "")):
                children(ElementTree.SubElement(root, "Upload"), {"Key": upload.name, "UploadId": upload_id})
        return document(root)

    def _list_parts(self, request: Request) -> Response:
        upload = self._upload(request)
        after = integer(request.query, "part-number-marker") or 0
        limit = min(integer(request.query, "max-parts") or MAX_PARTS, MAX_PARTS)
        numbers = sorted(number for number in tuple(upload.parts) if number > after)
        root = ElementTree.Element("ListPartsResult", xmlns=NAMESPACE)
        children(root, {"Bucket": upload.bucket, "Key": upload.name, "UploadId": request.query["uploadId"]})
        children(root, {"IsTruncated": str(len(numbers) > limit).lower()})
        if shown := numbers[:limit]:
            children(root, {"NextPartNumberMarker": str(shown[-1])})
        for number in shown:
            tag, data = upload.parts[number]
            part = ElementTree.SubElement(root, "Part")
            children(part, {"PartNumber": str(number), "ETag": tag, "Size": str(len(data))})
        return document(root)

    def _part(self, request: Request) -> Response:
        upload = self._upload(request)
        number = integer(request.query, "partNumber") or 0
        if not 1 <= number <= 10_000:
            raise ApiError(400, "invalid", f"Invalid part number {number}; allowed: 1 to 10000.")
        data = request.read()
        crc32c, md5 = verify(data, expected(request))
        tag = f'"{base64.b64decode(md5).hex()}"'
        upload.parts[number] = (tag, data)
        return Response(200, {"etag": tag, "x-goog-hash": f"crc32c={crc32c},md5={md5}"})

    def _complete(self, request: Request) -> Response:
        upload = self._upload(request)
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
            conditions=Conditions.of_query(conditions_of(request, self._contents, upload.bucket, upload.name)),
            has_md5=False,
        )
        self._uploads.pop(request.query["uploadId"], None)
        fields = {"Bucket": upload.bucket, "Key": upload.name, "ETag": tag_of(stored)}
        return message("CompleteMultipartUploadResult", fields, stored_headers(stored))

    def _upload(self, request: Request) -> Multipart:
        try:
            return self._uploads[request.query["uploadId"]]
        except KeyError:
            raise ApiError(404, "noSuchUpload", "The requested upload was not found.") from None
