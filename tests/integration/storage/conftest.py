"""Real servers on loopback: the project's own Cloud Storage, moto's S3, Microsoft's Azurite, and a folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import ContainerClient
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from job.demo.object_store import ObjectStore
from job.storage.azure import AzureStore
from job.storage.gcs import GcsStore
from job.storage.local import LocalStore
from job.storage.retry import Policy
from job.storage.s3 import S3Store
from job.storage.store import Store
from tests.servers import azurite_server

QUICK = Policy(first_wait_s=0.0, max_wait_s=0.0, overall_s=30.0)
"""All eight tries, without the pauses between them."""

_NUMBERS = itertools.count()


@dataclass
class Place:
    """One store to test, a way to put objects there behind its back, and one for a bucket that is not there."""

    store: Store
    put: Callable[[str, bytes], Any]
    missing: Store


@pytest.fixture
def gcs_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as server:
        server.put("photos", "other/outside.txt", b"not below the prefix")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


@pytest.fixture
def gcs_store(gcs_server: ObjectStore) -> GcsStore:
    return GcsStore("gs://photos/set", "photos", "set", policy=QUICK)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_client(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3 on an empty service with the bucket "photos"; the environment points the store at it too."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": moto_url,
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    client.create_bucket(Bucket="photos")
    yield client
    client.close()
    urllib3.request("POST", f"{moto_url}/moto-api/reset")


@pytest.fixture
def s3_store(s3_client: Any) -> S3Store:
    return S3Store("s3://photos/set", "photos", "set", policy=QUICK)


@pytest.fixture
def s3_put(s3_client: Any) -> Callable[[str, bytes], Any]:
    """Puts objects into the server's own memory: a thousand requests would take a minute."""
    backend = s3_backends["123456789012"]["aws"]
    return lambda name, data: backend.put_object("photos", f"set/{name}", data)


@pytest.fixture(scope="session")
def azurite_url() -> Iterator[str]:
    if reason := azurite_server.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with azurite_server.azurite() as url:
        yield url


@pytest.fixture
def az_container(azurite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerClient]:
    """A new container on Azurite; the environment points the store at it."""
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": azurite_server.ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": azurite_server.KEY,
        "AZURE_STORAGE_ENDPOINT": azurite_url,
    }.items():
        monkeypatch.setenv(name, value)
    credential = AzureNamedKeyCredential(azurite_server.ACCOUNT, azurite_server.KEY)
    with ContainerClient(azurite_url, f"photos-{next(_NUMBERS)}", credential) as client:
        client.create_container()
        yield client


@pytest.fixture
def az_store(az_container: ContainerClient) -> AzureStore:
    name = az_container.container_name
    return AzureStore(f"az://{name}/set", name, "set", policy=QUICK)


@pytest.fixture
def az_put(az_container: ContainerClient) -> Callable[[str, bytes], Any]:
    return lambda name, data: az_container.upload_blob(f"set/{name}", data, overwrite=True)


@pytest.fixture(params=["file", "gs", "s3", "az"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        root = tmp_path / "photos" / "set"
        root.mkdir(parents=True)

        def write(name: str, data: bytes) -> None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)

        return Place(LocalStore(str(root), root), write, LocalStore(f"{tmp_path}/none", tmp_path / "none"))
    if request.param == "gs":
        server = request.getfixturevalue("gcs_server")
        store = GcsStore("gs://photos/set", "photos", "set", policy=QUICK)
        missing = GcsStore("gs://nowhere/set", "nowhere", "set", policy=QUICK)
        return Place(store, lambda name, data: server.put("photos", f"set/{name}", data), missing)
    if request.param == "az":
        return Place(
            request.getfixturevalue("az_store"),
            request.getfixturevalue("az_put"),
            AzureStore("az://nowhere/set", "nowhere", "set", policy=QUICK),
        )
    return Place(
        request.getfixturevalue("s3_store"),
        request.getfixturevalue("s3_put"),
        S3Store("s3://nowhere/set", "nowhere", "set", policy=QUICK),
    )
