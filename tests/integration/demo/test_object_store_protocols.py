"""The resumable protocol and the XML API of the embedded object store, request by request."""

from __future__ import annotations

import hashlib
from typing import Any
from xml.etree import ElementTree

import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.checksums import crc32c, md5

UPLOAD = "/upload/storage/v1/b/photos/o"
QUANTUM = 256 * 1024


@pytest.fixture
def generation(store: ObjectStore) -> int:
    return store.put("photos", "a/cat.jpg", b"0123456789")


def open_session(call: Any, query: str = "", body: dict[str, str] | None = None) -> str:
    opened = call("POST", f"{UPLOAD}?uploadType=resumable&name=big{query}", body or {})
    assert (opened.status, opened.body) == (200, b"")
    return "/" + opened.headers["location"].split("/", 3)[3]


def test_a_resumable_upload_follows_the_protocol(store: ObjectStore, generation: int, call: Any) -> None:
    """https://cloud.google.com/storage/docs/performing-resumable-uploads."""
    data = bytes(range(256)) * 3 * 1024  # 3 quanta
    session = open_session(call, body={"contentType": "image/png"})
    unknown = {"Content-Range": "bytes */*"}
    asked = call("PUT", session, b"", unknown)
    assert (asked.status, "range" in asked.headers) == (308, False)
    chunk = call("PUT", session, data[:QUANTUM], {"Content-Range": f"bytes 0-{QUANTUM - 1}/*"})
    assert (chunk.status, chunk.headers["range"]) == (308, f"bytes=0-{QUANTUM - 1}")

    gap = call("PUT", session, data[:QUANTUM], {"Content-Range": f"bytes {2 * QUANTUM}-{3 * QUANTUM - 1}/*"})
    assert gap.status == 400
    # Sent again from the start, and of an uneven length: what is there is skipped, whole quanta are kept.
    overlap = call("PUT", session, data[: 2 * QUANTUM + 5], {"Content-Range": f"bytes 0-{2 * QUANTUM + 4}/*"})
    assert (overlap.status, overlap.headers["range"]) == (308, f"bytes=0-{2 * QUANTUM - 1}")
    asked = call("PUT", session, b"", {"Content-Range": f"bytes */{len(data)}"})
    assert asked.headers["range"] == f"bytes=0-{2 * QUANTUM - 1}"
    assert "big" not in store.names("photos")

    last = {"Content-Range": f"bytes {2 * QUANTUM}-{len(data) - 1}/{len(data)}"}
    done = call("PUT", session, data[2 * QUANTUM :], last)
    assert (done.status, done.json["size"], done.json["contentType"]) == (200, str(len(data)), "image/png")
    assert store.get("photos", "big") == data
    # The reply may have been lost: the question, and the chunk itself, are answered with the object.
    assert call("PUT", session, b"", unknown).json == done.json
    assert call("PUT", session, data[2 * QUANTUM :], last).json == done.json


def test_a_resumable_upload_may_come_whole_or_be_cancelled(store: ObjectStore, generation: int, call: Any) -> None:
    assert call("PUT", open_session(call), b"meow").json["size"] == "4"
    session = open_session(call)
    assert call("DELETE", session).status == 499
    assert call("PUT", session, b"meow").status == 404
    too_long = call("PUT", open_session(call), b"meow", {"Content-Range": "bytes 0-1/2"})
    assert too_long.status == 400
    unreadable = call("PUT", open_session(call), b"meow", {"Content-Range": "bytes 1"})
    assert unreadable.status == 400


def test_a_resumable_upload_is_checked_when_it_opens_and_again_when_it_ends(
    store: ObjectStore, generation: int, call: Any
) -> None:
    session = open_session(call, "&ifGenerationMatch=0")
    store.put("photos", "big", b"somebody was faster")
    assert call("PUT", session, b"meow").status == 412
    refused = call("POST", f"{UPLOAD}?uploadType=resumable&name=big&ifGenerationMatch=0", {})
    assert refused.status == 412
    assert call("PUT", open_session(call, body={"crc32c": "AAAAAA=="}), b"meow").status == 400
    assert call("PUT", open_session(call), b"meow", {"x-goog-hash": "md5=" + md5(b"woof")}).status == 400
    assert store.get("photos", "big") == b"somebody was faster"


def test_a_media_upload_checks_the_hash_header_and_takes_chunked_bodies(
    store: ObjectStore, generation: int, call: Any
) -> None:
    path = f"{UPLOAD}?uploadType=media&name=m"
    assert call("POST", path, b"meow", {"x-goog-hash": "crc32c=AAAAAA=="}).status == 400
    assert call("POST", path, b"meow", {"x-goog-hash": f"crc32c={crc32c(b'meow')}"}).status == 200
    assert call("POST", path, iter([b"me", b"ow", b"!"]), {"Content-Type": "text/plain"}).json["size"] == "5"
    assert store.get("photos", "m") == b"meow!"


def test_the_xml_api_puts_lists_copies_and_deletes(store: ObjectStore, generation: int, call: Any) -> None:
    """What boto3 and other S3-minded clients use."""
    made = call("PUT", "/photos/b/dog.jpg", b"woof", {"Content-MD5": md5(b"woof"), "x-goog-meta-label": "dog"})
    assert made.headers["etag"] == f'"{hashlib.md5(b"woof").hexdigest()}"'
    assert call("GET", "/storage/v1/b/photos/o/b%2Fdog.jpg").json["metadata"] == {"label": "dog"}
    assert call("PUT", "/photos/b/dog.jpg", b"w", {"Content-MD5": md5(b"woof")}).status == 400
    assert call("PUT", "/photos/b/dog.jpg", b"w", {"x-goog-if-generation-match": "0"}).status == 412
    assert call("PUT", "/photos/copy.jpg", b"", {"x-goog-copy-source": "/photos/b/dog.jpg"}).status == 200
    assert store.get("photos", "copy.jpg") == b"woof"

    spaces = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
    page = ElementTree.fromstring(call("GET", "/photos?list-type=2&max-keys=2&delimiter=/").body)
    assert [each.text for each in page.findall("s3:CommonPrefixes/s3:Prefix", spaces)] == ["a/", "b/"]
    token = page.findtext("s3:NextContinuationToken", namespaces=spaces)
    rest = ElementTree.fromstring(call("GET", f"/photos?list-type=2&delimiter=/&continuation-token={token}").body)
    assert [each.text for each in rest.findall("s3:Contents/s3:Key", spaces)] == ["copy.jpg"]
    assert rest.findtext("s3:IsTruncated", namespaces=spaces) == "false"
    after = ElementTree.fromstring(call("GET", "/photos?list-type=2&start-after=a/cat.jpg").body)
    assert [each.text for each in after.findall("s3:Contents/s3:Key", spaces)] == ["b/dog.jpg", "copy.jpg"]

    assert call("DELETE", "/photos/copy.jpg").status == 204
    assert call("DELETE", "/photos/copy.jpg").status == 404
    assert call("PATCH", "/photos/b/dog.jpg").status == 405
    assert call("GET", "/").status == 404


def test_an_xml_multipart_upload_refuses_wrong_and_small_parts(store: ObjectStore, generation: int, call: Any) -> None:
    opened = ElementTree.fromstring(call("POST", "/photos/big?uploads").body)
    upload = "/photos/big?uploadId=" + (opened.findtext("{http://s3.amazonaws.com/doc/2006-03-01/}UploadId") or "")
    tags = [call("PUT", f"{upload}&partNumber={number}", b"meow").headers["etag"] for number in (1, 2)]
    assert call("PUT", f"{upload}&partNumber=3", b"meow", {"x-goog-hash": "crc32c=AAAAAA=="}).status == 400
    assert call("PUT", f"{upload}&partNumber=0", b"meow").status == 400

    def complete(*parts: tuple[int, str]) -> tuple[int, str | None]:
        inside = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in parts)
        reply = call("POST", upload, f"<CompleteMultipartUpload>{inside}</CompleteMultipartUpload>".encode())
        return reply.status, ElementTree.fromstring(reply.body).findtext("Code")

    assert complete((1, tags[0]), (9, "x")) == (400, "InvalidPart")
    assert complete((1, tags[0]), (2, tags[1])) == (400, "EntityTooSmall")
    assert complete((2, tags[1])) == (200, None)
    assert store.get("photos", "big") == b"meow"
    assert complete((2, tags[1])) == (404, "NoSuchUpload")
    opened = ElementTree.fromstring(call("POST", "/photos/big?uploads").body)
    upload = "/photos/big?uploadId=" + (opened.findtext("{http://s3.amazonaws.com/doc/2006-03-01/}UploadId") or "")
    assert call("DELETE", upload).status == 204
    assert call("DELETE", upload).status == 404


def test_the_xml_api_keeps_s3s_conditions(store: ObjectStore, generation: int, call: Any) -> None:
    """If-Match and If-None-Match: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html."""
    tag = call("GET", "/photos/a/cat.jpg").headers["etag"]
    assert call("PUT", "/photos/a/cat.jpg", b"second", {"If-None-Match": "*"}).status == 412
    assert call("PUT", "/photos/a/cat.jpg", b"second", {"If-Match": tag}).status == 200
    assert call("PUT", "/photos/a/cat.jpg", b"third", {"If-Match": tag}).status == 412
    assert call("GET", "/photos/a/cat.jpg", headers={"If-Match": tag}).status == 412
    assert store.get("photos", "a/cat.jpg") == b"second"
    assert call("PUT", "/photos/new", b"x", {"If-Match": tag}).status == 412
    assert call("PUT", "/photos/new", b"x", {"If-None-Match": "*"}).status == 200


def test_an_xml_multipart_upload_is_listed_and_completed_under_a_condition(
    store: ObjectStore, generation: int, call: Any
) -> None:
    """As S3 does: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html."""
    spaces = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
    opened = ElementTree.fromstring(call("POST", "/photos/a/big?uploads").body)
    upload_id = opened.findtext("s3:UploadId", namespaces=spaces) or ""
    upload = f"/photos/a/big?uploadId={upload_id}"
    tags = [call("PUT", f"{upload}&partNumber={number}", b"meow").headers["etag"] for number in (1, 2, 10_000)]

    for prefix, found in (("a/", [upload_id]), ("b/", [])):
        listed = ElementTree.fromstring(call("GET", f"/photos?uploads&prefix={prefix}").body)
        assert [each.text for each in listed.findall("s3:Upload/s3:UploadId", spaces)] == found
    page = ElementTree.fromstring(call("GET", f"{upload}&max-parts=2").body)
    assert [each.text for each in page.findall("s3:Part/s3:ETag", spaces)] == tags[:2]
    marker = page.findtext("s3:NextPartNumberMarker", namespaces=spaces)
    rest = ElementTree.fromstring(call("GET", f"{upload}&part-number-marker={marker}").body)
    assert [each.text for each in rest.findall("s3:Part/s3:PartNumber", spaces)] == ["10000"]
    assert [each.findtext("s3:IsTruncated", namespaces=spaces) for each in (page, rest)] == ["true", "false"]

    part = f"<Part><PartNumber>1</PartNumber><ETag>{tags[0]}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    store.put("photos", "a/big", b"older")
    older = call("GET", "/photos/a/big").headers["etag"]
    store.put("photos", "a/big", b"newer")
    assert call("POST", upload, body, {"If-None-Match": "*"}).status == 412
    assert call("POST", upload, body, {"If-Match": older}).status == 412
    assert store.get("photos", "a/big") == b"newer"
    newer = call("GET", "/photos/a/big").headers["etag"]
    assert call("POST", upload, body, {"If-Match": newer}).status == 200
    assert store.get("photos", "a/big") == b"meow"
    assert call("GET", upload).status == 404


def test_metadata_comes_back_in_the_words_of_who_asks(store: ObjectStore, generation: int, call: Any) -> None:
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test"}
    call("PUT", "/photos/dog.jpg", b"woof", {**signed, "x-amz-meta-label": "dog"})
    assert call("HEAD", "/photos/dog.jpg", headers=signed).headers["x-amz-meta-label"] == "dog"
    assert call("GET", "/photos/dog.jpg").headers["x-goog-meta-label"] == "dog"
