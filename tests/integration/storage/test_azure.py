"""az:// beyond the common contract: logins, checksums, errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core import exceptions as foreign
from azure.storage.blob import (
    ContainerClient,
    ContainerSasPermissions,
    ContentSettings,
    StorageErrorCode,
    generate_container_sas,
)

from job.errors import AccessError, ConfigError, InputMissingError, TemporaryError
from job.storage import at
from job.storage.azure import AzureStore
from job.storage.azure_errors import translate
from job.storage.conditional import UploadLostError
from job.storage.retry import PassingError, Policy
from job.storage.store import VersionConflictError
from job.storage.transfer import pull
from tests.servers import azurite_server

QUICK = Policy(tries=2, first_wait_s=0.0, max_wait_s=0.0, connect_timeout_s=1.0)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/account")


def test_a_uri_is_container_and_prefix(az_container: ContainerClient, tmp_path: Path):
    az_container.upload_blob("set/cats/1.jpg", b"x")
    uri = f"az://{az_container.container_name}"
    assert pull(at(f"{uri}/set/"), tmp_path).num_objects == 1
    assert [info.name for info in at(uri).list()] == ["set/cats/1.jpg"]
    found = at(f"{uri}/set/cats/1.jpg").stat("")
    assert found is not None
    assert found.name == ""


def test_a_service_that_is_not_there_is_a_temporary_error(account: None, tmp_path: Path):
    store = AzureStore("az://photos/set", "photos", "set", policy=QUICK)
    with pytest.raises(TemporaryError, match="az://photos/set/a"):
        store.read("a")
    (tmp_path / "in").write_bytes(b"x")
    with pytest.raises(TemporaryError, match="uploading az://photos/set/a failed in 2 tries"):
        store.upload(tmp_path / "in", "a")


def test_without_an_account_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessError, match="az://photos/set") as caught:
        at("az://photos/set")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.next_step


def test_a_wrong_key_is_no_permission_and_says_what_to_set(
    az_container: ContainerClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    uri = f"az://{az_container.container_name}/set"
    with pytest.raises(AccessError, match=uri) as caught:
        list(at(uri).list())
    assert caught.value.exit_code == 77
    assert "AZURE_STORAGE_ACCOUNT_KEY" in caught.value.next_step


@pytest.mark.parametrize("login", ["connection string", "signature"])
def test_other_logins_than_a_key(
    az_container: ContainerClient, azurite_url: str, monkeypatch: pytest.MonkeyPatch, login: str
):
    az_container.upload_blob("set/a.jpg", b"content")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    name, key = az_container.container_name, azurite_server.KEY
    if login == "signature":
        allowed, until = ContainerSasPermissions(read=True), datetime.now(UTC) + timedelta(hours=1)
        signed = generate_container_sas(azurite_server.ACCOUNT, name, key, permission=allowed, expiry=until)
        monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", f"?{signed}")
    else:
        for variable in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"):
            monkeypatch.delenv(variable)
        said = f"AccountName={azurite_server.ACCOUNT};AccountKey={key};BlobEndpoint={azurite_url}"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", said)
    assert at(f"az://{name}/set").read("a.jpg") == b"content"


def test_a_connection_string_that_cannot_be_one_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "none")
    with pytest.raises(ConfigError, match="az://photos/set cannot be used"):
        at("az://photos/set").read("a")


def test_a_listing_and_a_write_name_the_same_version(az_store: AzureStore):
    written = az_store.write("lease.json", b"mine")
    (listed,) = az_store.list()
    assert listed == written
    az_store.write("lease.json", b"again", if_version=listed.version)


def test_what_differs_from_the_listed_md5_is_refused_whoever_wrote_it(
    az_container: ContainerClient, az_store: AzureStore, tmp_path: Path
):
    wrong = ContentSettings(content_md5=bytearray(16))
    az_container.upload_blob("set/a.jpg", b"content").set_http_headers(wrong)
    (info,) = az_store.list()
    assert (info.checksum, info.algorithm) == ("0" * 32, "md5")
    with pytest.raises(TemporaryError, match=r"/set/a\.jpg failed in 8 tries.*came damaged"):
        az_store.download(info, tmp_path / "to" / "a.jpg")
    assert list((tmp_path / "to").iterdir()) == []
    with pytest.raises(TemporaryError, match="came damaged"):
        az_store.read("a.jpg")


def test_folders_of_a_hierarchical_namespace_are_no_objects(az_container: ContainerClient, az_store: AzureStore):
    az_container.upload_blob("set/cats", b"", metadata={"hdi_isfolder": "true"})
    az_container.upload_blob("set/cats/1.jpg", b"x")
    assert [info.name for info in az_store.list()] == ["cats/1.jpg"]


def answer(status: int, code: str = "", kind: type[Any] = foreign.HttpResponseError) -> Exception:
    response = SimpleNamespace(status_code=status, reason="said", headers={}, body=lambda: b"")
    error: Exception = kind(response=response)
    error.error_code = StorageErrorCode(code) if code else None  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer(404, "BlobNotFound", foreign.ResourceNotFoundError), InputMissingError),
        (answer(403, "AuthorizationFailure", foreign.ClientAuthenticationError), AccessError),
        (answer(401, "", foreign.ClientAuthenticationError), AccessError),
        (foreign.ClientAuthenticationError("DefaultAzureCredential failed"), AccessError),
        (answer(409, "BlobAlreadyExists", foreign.ResourceExistsError), VersionConflictError),
        (answer(412, "ConditionNotMet", foreign.ResourceModifiedError), VersionConflictError),
        (answer(400, "InvalidBlockList"), UploadLostError),
        (answer(400, "Md5Mismatch"), PassingError),
        (answer(503, "ServerBusy"), PassingError),
        (foreign.ServiceRequestError("refused"), PassingError),
        (foreign.ServiceResponseError("reset"), PassingError),
        (foreign.IncompleteReadError("short"), PassingError),
    ],
)
def test_an_error_of_azure_becomes_ours(error: Exception, kind: type[Exception]):
    translated = translate(error, "az://photos/set/a")
    assert type(translated) is kind
    if kind is not PassingError:
        assert "az://photos/set/a" in str(translated)
        assert re.search(r"Next: \S", str(translated))
