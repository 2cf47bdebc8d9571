"""One object store a test, and Google's own client pointed at it."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from job.demo.object_store import ObjectStore

if TYPE_CHECKING:
    from google.cloud import storage


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Call = Callable[..., Reply]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    with ObjectStore() as started:
        yield started


@pytest.fixture
def client(store: ObjectStore) -> Iterator[storage.Client]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    made = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": store.url}
    )
    yield made
    made.close()
    if store.fault is not None:
        # Google's client drops a reply that it tries again without closing it. Collected here, the open
        # socket is this test's, which expects it, and not some later one's.
        gc.collect()


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.create_bucket("photos")


@pytest.fixture
def call(store: ObjectStore) -> Iterator[Call]:
    """Plain HTTP, all on one kept-alive connection: `call("GET", path, headers=…)`."""
    connection = HTTPConnection(store.url.removeprefix("http://"), timeout=10)

    def send(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())

    yield send
    connection.close()
