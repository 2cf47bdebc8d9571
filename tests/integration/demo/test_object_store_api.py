"""The embedded object store's replies, byte by byte, against the documentation of Cloud Storage.

What Google's client hides: header values, JSON fields, error bodies, connections.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import socket
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import google_crc32c
import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.checksums import crc32c, crc32c_in_python, md5
from job.errors import InputMissingError

ITEM = "/storage/v1/b/photos/o/a%2Fcat.jpg"
MEDIA = "/download/storage/v1/b/photos/o/a%2Fcat.jpg?alt=media"
UPLOAD = "/upload/storage/v1/b/photos/o"


@pytest.fixture
def generation(store: ObjectStore) -> int:
    return store.put("photos", "a/cat.jpg", b"0123456789")


def test_an_object_has_the_documented_fields(store: ObjectStore, generation: int, call: Any) -> None:
    """https://cloud.google.com/storage/docs/json_api/v1/objects#resource: 64-bit numbers are strings."""
    found = call("GET", ITEM).json
    digest = base64.b64encode(hashlib.md5(b"0123456789").digest()).decode()
    checksum = base64.b64encode(struct.pack(">I", google_crc32c.value(b"0123456789"))).decode()
    expected = {
        "kind": "storage#object",
        "id": f"photos/a/cat.jpg/{generation}",
        "selfLink": f"{store.url}{ITEM}",
        "mediaLink": f"{store.url}/download{ITEM}?generation={generation}&alt=media",
        "name": "a/cat.jpg",
        "bucket": "photos",
        "generation": str(generation),
        "metageneration": "1",
        "contentType": "image/jpeg",
        "storageClass": "STANDARD",
        "size": "10",
        "md5Hash": digest,
        "crc32c": checksum,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["etag"]
    for key in ("timeCreated", "updated", "timeStorageClassUpdated"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[key])
    assert "componentCount" not in found
    assert len(str(generation)) == 16  # microseconds


def test_a_bucket_has_the_documented_fields(store: ObjectStore, call: Any) -> None:
    made = call("POST", "/storage/v1/b?project=p", {"name": "photos", "location": "EU"}).json
    assert made == call("GET", "/storage/v1/b/photos").json
    assert made["kind"] == "storage#bucket"
    assert (made["id"], made["name"], made["location"], made["metageneration"]) == ("photos", "photos", "EU", "1")
    assert made["selfLink"] == f"{store.url}/storage/v1/b/photos"
    assert call("GET", "/storage/v1/b?project=p").json["kind"] == "storage#buckets"
    assert call("GET", "/storage/v1/b/photos/o").json == {"kind": "storage#objects"}


def test_links_lead_back_to_the_host_the_client_came_through(generation: int, call: Any) -> None:
    headers = {"Host": "bucket.example:9041"}
    assert call("GET", ITEM, headers=headers).json["mediaLink"].startswith("http://bucket.example:9041/download/")
    opened = call("POST", f"{UPLOAD}?uploadType=resumable&name=x", headers=headers)
    assert opened.headers["location"].startswith("http://bucket.example:9041/upload/storage/v1/b/photos/o?")


def test_a_download_carries_the_goog_headers(generation: int, call: Any) -> None:
    for path in (MEDIA, f"{ITEM}?alt=media", "/photos/a/cat.jpg"):
        reply = call("GET", path)
        assert (reply.status, reply.body) == (200, b"0123456789")
        assert reply.headers["x-goog-hash"] == f"crc32c={crc32c(reply.body)},md5={md5(reply.body)}"
        assert reply.headers["x-goog-generation"] == str(generation)
        assert reply.headers["x-goog-metageneration"] == "1"
        assert reply.headers["x-goog-stored-content-length"] == "10"
        assert reply.headers["x-goog-stored-content-encoding"] == "identity"
        assert reply.headers["x-goog-storage-class"] == "STANDARD"
        assert reply.headers["content-type"] == "image/jpeg"
        assert reply.headers["content-length"] == "10"
        assert call("HEAD", path).headers == reply.headers


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"The requested range cannot be satisfied.", "bytes */10"),
        ("bytes=-0", 416, b"The requested range cannot be satisfied.", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_range_is_answered_as_rfc_9110_says(
    generation: int, call: Any, asked: str, status: int, body: bytes, content_range: str | None
) -> None:
    reply = call("GET", MEDIA, headers={"Range": asked})
    assert (reply.status, reply.body, reply.headers.get("content-range")) == (status, body, content_range)
    if status != 416:
        assert reply.headers["x-goog-hash"].startswith("crc32c=")
        assert reply.headers["x-goog-stored-content-length"] == "10"


def test_gzip_is_sent_raw_to_those_who_accept_it_and_decompressed_to_others(store: ObjectStore, call: Any) -> None:
    store.put("photos", "a/cat.jpg", b"")
    raw = gzip.compress(b"a,b\n" * 500)
    assert call("POST", f"{UPLOAD}?uploadType=media&name=a/cat.jpg&contentEncoding=gzip", raw).status == 200
    packed = call("GET", MEDIA, headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
    assert (packed.status, packed.body, packed.headers["content-encoding"]) == (206, raw[:10], "gzip")
    plain = call("GET", MEDIA, headers={"Accept-Encoding": "identity", "Range": "bytes=0-9"})
    assert (plain.status, plain.body) == (200, b"a,b\n" * 500)
    assert not {"content-encoding", "content-length"} & plain.headers.keys()
    assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
    assert plain.headers["x-goog-stored-content-length"] == str(len(raw))
    call("PATCH", ITEM, {"cacheControl": "no-transform"})
    assert call("GET", MEDIA, headers={"Accept-Encoding": "identity"}).body == raw
    store.put("photos", "a/cat.jpg", b"not gzip at all")
    call("PATCH", ITEM, {"contentEncoding": "gzip"})
    assert call("GET", MEDIA, headers={"Accept-Encoding": "identity"}).body == b"not gzip at all"


def test_errors_have_the_documented_form(generation: int, call: Any) -> None:
    """JSON for the JSON API, plain text for its media, XML for the XML API."""
    refused = call("DELETE", f"{ITEM}?ifGenerationMatch=1")
    message = "At least one of the pre-conditions you specified did not hold."
    detail = {"message": message, "domain": "global", "reason": "conditionNotMet"}
    detail |= {"locationType": "header", "location": "If-Match"}
    assert refused.status == 412
    assert refused.json == {"error": {"code": 412, "message": message, "errors": [detail]}}

    missing = call("GET", "/storage/v1/b/photos/o/dog.jpg").json["error"]
    assert (missing["code"], missing["message"]) == (404, "No such object: photos/dog.jpg")
    assert missing["errors"][0]["reason"] == "notFound"
    for path in ("/storage/v1/b/photos/o/dog.jpg?alt=media", "/download/storage/v1/b/photos/o/dog.jpg?alt=media"):
        text = call("GET", path)
        assert (text.status, text.body) == (404, b"No such object: photos/dog.jpg")
    for path, code in (("/photos/dog.jpg", "NoSuchKey"), ("/nowhere/dog.jpg", "NoSuchBucket")):
        reply = call("GET", path)
        assert (reply.status, ElementTree.fromstring(reply.body).findtext("Code")) == (404, code)
    unchanged = call("GET", f"{MEDIA}&ifGenerationNotMatch={generation}")
    assert (unchanged.status, unchanged.body) == (304, b"")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/storage/v1/b", {}, 400, "required"),
        ("POST", "/storage/v1/b", b"{", 400, "parseError"),
        ("POST", "/storage/v1/b", b"[]", 400, "parseError"),
        ("POST", "/storage/v1/b", {"name": "photos"}, 409, "conflict"),
        ("POST", f"{UPLOAD}?uploadType=media", b"x", 400, "required"),
        ("POST", f"{UPLOAD}?uploadType=media&name=..", b"x", 400, "invalid"),
        ("POST", f"{UPLOAD}?uploadType=media&name=a%0Ab", b"x", 400, "invalid"),
        ("POST", f"{UPLOAD}?uploadType=media&name={'n' * 1025}", b"x", 400, "invalid"),
        ("POST", f"{UPLOAD}?uploadType=other&name=a", b"x", 400, "invalid"),
        ("POST", f"{UPLOAD}?uploadType=multipart&name=a", b"x", 400, "badContent"),
        ("POST", f"{UPLOAD}?uploadType=media&name=a&ifGenerationMatch=one", b"x", 400, "invalid"),
        ("PUT", f"{UPLOAD}?upload_id=gone", b"x", 404, "notFound"),
        ("GET", "/storage/v1/b/photos/o?pageToken=%21", None, 400, "invalid"),
        ("GET", "/storage/v1/b/photos/o?maxResults=many", None, 400, "invalid"),
        ("POST", "/batch/storage/v1", b"x", 400, "badRequest"),
        ("GET", "/storage/v1/nothing", None, 404, "notFound"),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(
    generation: int, call: Any, method: str, path: str, body: Any, status: int, reason: str
) -> None:
    error = call(method, path, body).json["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (status, reason)


def test_an_unmet_metageneration_not_match_refuses_an_upload(generation: int, call: Any) -> None:
    path = f"{UPLOAD}?uploadType=media&name=a/cat.jpg&ifMetagenerationNotMatch=1"
    assert call("POST", path, b"x").status == 412


def test_what_is_not_http_is_answered_and_ends_the_connection(store: ObjectStore) -> None:
    host, port = store.url.removeprefix("http://").split(":")
    for noise in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"x" * 100_000):
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(noise)
            assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"GET /storage/v1/b HTTP/1.0\r\n\r\n")
        assert b"connection: close" in sock.makefile("rb").read()


def test_a_body_is_invited_where_the_client_waits_for_it(store: ObjectStore) -> None:
    store.put("photos", "a", b"")
    host, port = store.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        head = f"POST {UPLOAD}?uploadType=media&name=b HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        sock.sendall(head.encode())
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"meow")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    assert store.get("photos", "b") == b"meow"


def test_crc32c_in_python_equals_the_c_library() -> None:
    assert crc32c_in_python(b"123456789") == 0xE3069283  # the check value of CRC-32C
    for data in (b"", b"\0" * 32, bytes(range(256))):
        assert crc32c_in_python(data) == google_crc32c.value(data)


def test_the_store_is_closed_without_leftovers_and_knows_only_its_folder(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(b"meow")
    (tmp_path / "beside.txt").write_bytes(b"not in a bucket")
    with ObjectStore(tmp_path) as store:
        assert store.names("photos") == store.names("photos", "cat/") == ["cat/1.jpg"]
        host, port = store.url.removeprefix("http://").split(":")
        idle = socket.create_connection((host, int(port)), timeout=10)
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)
    with pytest.raises(InputMissingError), ObjectStore(tmp_path / "missing"):
        pass
