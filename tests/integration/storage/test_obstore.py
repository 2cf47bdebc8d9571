"""s3:// and az:// beyond the common contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from obstore import exceptions as foreign

from job.errors import AccessError, ConfigError, DatasetError, InputMissingError, TemporaryError
from job.storage import at
from job.storage.obstore_errors import translate
from job.storage.obstore_services import azure, s3
from job.storage.obstore_store import ObstoreStore
from job.storage.retry import PassingError, Policy
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


def test_an_object_in_parts_has_no_checksum_and_comes_back_whole(
    s3_client: Any, s3_store: ObstoreStore, tmp_path: Path
):
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


def test_content_that_differs_from_its_md5_is_refused(s3_store: ObstoreStore, s3_put: Any, tmp_path: Path):
    s3_put("a.jpg", b"content")
    (info,) = s3_store.list()
    object.__setattr__(info, "checksum", "0" * 32)
    with pytest.raises(TemporaryError, match=r"s3://photos/set/a\.jpg failed in 8 tries.*came damaged"):
        s3_store.download(info, tmp_path / "to" / "a.jpg")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_size_that_differs_is_refused(s3_store: ObstoreStore, s3_put: Any, tmp_path: Path):
    s3_put("a.jpg", b"content")
    (info,) = s3_store.list()
    object.__setattr__(info, "size_bytes", 8)
    with pytest.raises(TemporaryError, match="7 of 8 bytes came"):
        s3_store.download(info, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_with_kms_keys_an_etag_is_no_checksum(s3_client: Any, s3_put: Any, monkeypatch: pytest.MonkeyPatch):
    s3_put("a.jpg", b"content")
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms")
    (info,) = s3("s3://photos/set", "photos", "set").list()
    assert (info.checksum, info.algorithm) == ("", "")
    assert info.version


def test_a_service_that_is_not_there_is_a_temporary_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(TemporaryError, match="listing s3://photos/set failed in 2 tries"):
        list(s3("s3://photos/set", "photos", "set", policy=QUICK).list())


@pytest.fixture
def azure_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/account")


def test_an_azure_uri_is_container_and_prefix(azure_account: None):
    store = at("az://photos/flowers/train/")
    assert isinstance(store, ObstoreStore)
    assert store.uri == "az://photos/flowers/train"
    assert (store._prefix, store._has_md5) == ("flowers/train/", False)


def test_an_azure_service_that_is_not_there_is_a_temporary_error(azure_account: None, tmp_path: Path):
    store = azure("az://photos/set", "photos", "set", policy=QUICK)
    with pytest.raises(TemporaryError, match="az://photos/set/a"):
        store.read("a")
    (tmp_path / "in").write_bytes(b"x")
    with pytest.raises(TemporaryError, match="uploading az://photos/set/a failed in 2 tries"):
        store.upload(tmp_path / "in", "a")


def test_azure_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(AccessError, match="az://photos/set") as caught:
        at("az://photos/set")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.next_step


def test_a_wrong_azure_key_is_no_permission_and_says_what_to_set(az_container: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(AccessError, match=f"az://{az_container}/set") as caught:
        list(at(f"az://{az_container}/set").list())
    assert caught.value.exit_code == 77
    assert "AZURE_STORAGE_ACCOUNT_KEY" in caught.value.next_step


def test_an_azure_listing_and_a_write_name_the_same_version(az_store: ObstoreStore):
    written = az_store.write("lease.json", b"mine")
    (listed,) = az_store.list()
    assert listed.version == written.version
    az_store.write("lease.json", b"again", if_version=listed.version)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("Object at location x not found"), InputMissingError),
        (foreign.PermissionDeniedError("403 AuthorizationFailure"), AccessError),
        (foreign.UnauthenticatedError("401"), AccessError),
        (foreign.AlreadyExistsError("BlobAlreadyExists"), VersionConflictError),
        (foreign.PreconditionError("ConditionNotMet"), VersionConflictError),
        (foreign.InvalidPathError("../evil"), DatasetError),
        (
            foreign.GenericError("Server returned non-2xx status code: 404 Not Found: ContainerNotFound"),
            InputMissingError,
        ),
        (foreign.GenericError("Server returned non-2xx status code: 503 Server Busy"), PassingError),
        (foreign.GenericError("Server returned non-2xx status code: 301 Moved Permanently"), ConfigError),
        (foreign.GenericError("Error performing PUT http://169.254.169.254/latest/api/token"), AccessError),
        (foreign.GenericError("HTTP error: error sending request"), PassingError),
    ],
)
def test_an_obstore_error_becomes_ours(error: Exception, kind: type[Exception]):
    translated = translate(error, "az://photos/set/a", "Log in.")
    assert type(translated) is kind
    if kind is not PassingError:
        assert "az://photos/set/a" in str(translated)
        assert re.search(r"Next: \S", str(translated))
