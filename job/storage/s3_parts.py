"""One large object on its way to S3, in parts, which another process can go on with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from job.storage import checksum
from job.storage.conditional import UploadLostError
from job.storage.parts import Cut, Part
from job.storage.retry import Retrier
from job.storage.s3_errors import code_of, status_of
from job.storage.store import ABSENT

MARK = 10_000
"""The last part number that there is. It holds the MD5 of the whole and is left out of the object.

S3 lists no metadata of an unfinished upload: this part tells one of the same content, to go on with, from one of an
earlier content, to remove, and from those of other tools, to leave alone.
"""

_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
_NOT_ALLOWED = (403, 404, 405, 501)


class Multipart:
    """An upload in parts: those that are there already, of this content, are not sent again.

    Needs no permission beyond s3:PutObject. Without s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts each
    process begins anew; without s3:AbortMultipartUpload what was given up stays until the bucket's rules remove it.

    Args:
        client: boto3's.
        begin: What the object is made with: metadata, encryption.
        retry: For the parts, each by itself.
        full: The object's URI, for messages.
    """

    def __init__(
        self, client: Any, bucket: str, key: str, whole: Cut, begin: Mapping[str, Any], retry: Retrier, full: str
    ) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": key}
        self._whole = whole
        self._begin = begin
        self._retry = retry
        self._full = full
        self._id = ""
        self._tags: dict[int, str] = {}
        self._has_looked = False

    def send(self, seen: str) -> Mapping[str, Any]:
        """Returns S3's answer when the object is there, which it is only where `seen` was.

        Raises:
            UploadLostError: Somebody removed the parts; another call sends them again.
        """
        try:
            if not self._id:
                self._take_up()
            self._whole.send([part for part in self._whole.parts if part.number not in self._tags], self._send)
            made = [{"PartNumber": part.number, "ETag": self._tags[part.number]} for part in self._whole.parts]
            answer: Mapping[str, Any] = self._client.complete_multipart_upload(
                **self._object, UploadId=self._id, MultipartUpload={"Parts": made}, **condition(seen)
            )
        except UploadLostError:
            self._id = ""
            raise
        except ClientError as error:
            if code_of(error) in _REFUSED:
                self._abort(self._id)
            if code_of(error) in (*_REFUSED, "NoSuchUpload"):
                self._id = ""
            raise
        return answer

    def _take_up(self) -> None:
        """Finds an upload of this content that was begun before, or begins one."""
        mark = checksum.of_bytes(self._whole.md5.encode(), "md5")
        self._tags = {}
        for upload_id in self._unfinished():
            tags = self._listed(upload_id)
            if not self._id and tags.get(MARK, "").strip('"') == mark:
                self._id = upload_id
                found = {part.number: tags.get(part.number, "") for part in self._whole.parts}
                md5s = {part.number: part.md5 for part in self._whole.parts}
                self._tags = {number: tag for number, tag in found.items() if tag.strip('"') == md5s[number]}
            elif MARK in tags and not self._has_looked:
                # Of an earlier content. Only once: two that send to one key would remove each other's for ever.
                self._abort(upload_id)
        self._has_looked = True
        if not self._id:
            self._id = self._client.create_multipart_upload(**self._object, **self._begin)["UploadId"]
            self._put(MARK, self._whole.md5.encode(), mark)

    def _unfinished(self) -> list[str]:
        found = _if_allowed(
            self._client.list_multipart_uploads, Bucket=self._object["Bucket"], Prefix=self._object["Key"]
        )
        return [each["UploadId"] for each in found.get("Uploads", ()) if each["Key"] == self._object["Key"]]

    def _listed(self, upload_id: str) -> dict[int, str]:
        """Returns the ETag of each part of an upload."""
        tags: dict[int, str] = {}
        more: dict[str, int] = {}
        while True:
            found = _if_allowed(self._client.list_parts, **self._object, UploadId=upload_id, **more)
            tags |= {part["PartNumber"]: part["ETag"] for part in found.get("Parts", ())}
            if not found.get("IsTruncated"):
                return tags
            more = {"PartNumberMarker": found["NextPartNumberMarker"]}

    def _send(self, part: Part, data: bytes) -> None:
        self._tags[part.number] = self._retry.run(
            f"uploading part {part.number} of",
            self._full,
            lambda _: self._put(part.number, data, part.md5),
            size_bytes=part.size_bytes,
        )

    def _put(self, number: int, data: bytes, md5: str) -> str:
        answer = self._client.upload_part(
            **self._object, UploadId=self._id, PartNumber=number, Body=data, ContentMD5=checksum.to_base64(md5)
        )
        return str(answer["ETag"])

    def _abort(self, upload_id: str) -> None:
        # Whatever it says: parts to pay for are no reason to fail.
        with contextlib.suppress(ClientError, BotoCoreError):
            self._client.abort_multipart_upload(**self._object, UploadId=upload_id)


def condition(seen: str) -> dict[str, str]:
    """Returns the header that lets a write replace `seen` and nothing else."""
    return {"IfNoneMatch": "*"} if seen == ABSENT else {"IfMatch": seen}


def _if_allowed(ask: Callable[..., Mapping[str, Any]], **about: Any) -> Mapping[str, Any]:
    """Returns an answer, an empty one where there is no permission to ask, or nothing to ask about."""
    try:
        return ask(**about)
    except ClientError as error:
        if status_of(error) in _NOT_ALLOWED:
            return {}
        raise
