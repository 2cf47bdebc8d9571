"""s3:// beyond the common contract: logins, checksums, errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as foreign
from botocore.parsers import ResponseParserError

from job.errors import AccessError, ConfigError, InputMissingError, TemporaryError
from job.storage import at
from job.storage.conditional import UploadLostError
from job.storage.retry import PassingError, Policy
from job.storage.s3 import S3Store
from job.storage.s3_errors import translate
from job.storage.store import VersionConflictError
from job.storage.transfer import pull

QUICK = Policy(tries=2, first_wait_s=0.0, max_wait_s=0.0, connect_timeout_s=1.0)


def test_a_uri_leads_to_the_service_of_the_environment(s3_client: Any, s3_put: Any, tmp_path: Path):
    s3_put("cats/1.jpg", b"x")
    assert pull(at("s3://photos/set/"), tmp_path).num_objects == 1
    assert [info.name for info in at("s3://photos").list()] == ["set/cats/1.jpg"]
    found = at("s3://photos/set/cats/1.jpg").stat("")
    assert found is not None
    assert found.name == ""


def test_an_object_in_parts_has_no_checksum_and_comes_back_whole(s3_client: Any, s3_store: S3Store, tmp_path: Path):
    data = bytes(range(256)) * (6 << 12)
    upload = s3_client.create_multipart_upload(Bucket="photos", Key="set/big")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3_client.upload_part(
                Bucket="photos", Key="set/big", UploadId=upload, PartNumber=number, Body=data
            )["ETag"],
        }
        for number in (1, 2)
    ]
    s3_client.complete_multipart_upload(
        Bucket="photos", Key="set/big", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    (info,) = s3_store.list()
    assert (info.checksum, info.algorithm) == ("", "")
    assert pull(s3_store, tmp_path).num_fetched == 1
    assert (tmp_path / "big").read_bytes() == data * 2
    assert pull(s3_store, tmp_path).num_fetched == 0


def test_content_that_differs_from_its_md5_is_refused(s3_store: S3Store, s3_put: Any, tmp_path: Path):
    s3_put("a.jpg", b"content")
    (info,) = s3_store.list()
    object.__setattr__(info, "checksum", "0" * 32)
    with pytest.raises(TemporaryError, match=r"s3://photos/set/a\.jpg failed in 8 tries.*came damaged"):
        s3_store.download(info, tmp_path / "to" / "a.jpg")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_size_that_differs_is_refused(s3_store: S3Store, s3_put: Any, tmp_path: Path):
    s3_put("a.jpg", b"content")
    (info,) = s3_store.list()
    object.__setattr__(info, "size_bytes", 8)
    with pytest.raises(TemporaryError, match="7 of 8 bytes came"):
        s3_store.download(info, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_with_kms_keys_an_etag_is_no_checksum(s3_client: Any, s3_put: Any, monkeypatch: pytest.MonkeyPatch):
    s3_put("a.jpg", b"content")
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms")
    (info,) = S3Store("s3://photos/set", "photos", "set").list()
    assert (info.checksum, info.algorithm) == ("", "")
    assert info.version


def test_a_service_that_is_not_there_is_a_temporary_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(TemporaryError, match="listing s3://photos/set failed in 2 tries"):
        list(S3Store("s3://photos/set", "photos", "set", policy=QUICK).list())


def test_an_endpoint_that_cannot_be_one_is_a_wrong_setting(s3_client: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")
    with pytest.raises(ConfigError, match="s3://photos/set cannot be used"):
        at("s3://photos/set").read("a")


def without_login(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))


def test_a_profile_is_a_login(s3_client: Any, s3_put: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    s3_put("a.jpg", b"content")
    without_login(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "team")
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id = test\naws_secret_access_key = test\n")
    assert at("s3://photos/set").read("a.jpg") == b"content"
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(AccessError, match="another"):
        at("s3://photos/set").read("a.jpg")


def test_without_a_login_nothing_is_signed_and_it_says_what_to_set(
    s3_client: Any, s3_put: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    s3_put("a.jpg", b"content")
    without_login(monkeypatch, tmp_path)
    with pytest.raises(AccessError, match="no usable credentials for s3://photos/set/a.jpg") as caught:
        at("s3://photos/set").read("a.jpg")
    assert "AWS_PROFILE" in caught.value.next_step
    s3_client.put_object_acl(Bucket="photos", Key="set/a.jpg", ACL="public-read")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert at("s3://photos/set").read("a.jpg") == b"content"


def answer(status: int, code: str = "") -> foreign.ClientError:
    said = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return foreign.ClientError(said, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer(404, "NoSuchKey"), InputMissingError),
        (answer(404, "NoSuchUpload"), UploadLostError),
        (answer(403, "AccessDenied"), AccessError),
        (answer(401), AccessError),
        (answer(400, "ExpiredToken"), AccessError),
        (answer(412, "PreconditionFailed"), VersionConflictError),
        (answer(409, "ConditionalRequestConflict"), VersionConflictError),
        (answer(400, "BadDigest"), PassingError),
        (answer(400, "RequestTimeout"), PassingError),
        (answer(503, "SlowDown"), PassingError),
        (answer(301, "PermanentRedirect"), ConfigError),
        (foreign.NoCredentialsError(), AccessError),
        (foreign.EndpointConnectionError(endpoint_url="http://127.0.0.1"), PassingError),
        (foreign.ReadTimeoutError(endpoint_url="http://127.0.0.1"), PassingError),
        (ResponseParserError("half an answer"), PassingError),
        (foreign.ParamValidationError(report="Invalid bucket name"), ConfigError),
    ],
)
def test_a_botocore_error_becomes_ours(error: Exception, kind: type[Exception]):
    translated = translate(error, "s3://photos/set/a")
    assert type(translated) is kind
    if kind is not PassingError:
        assert "s3://photos/set/a" in str(translated)
        assert re.search(r"Next: \S", str(translated))
