"""From and to a bucket, with the same result as from disk."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.storage import Store, at, transfer
from tests.e2e.tiny import Done, assert_same_result, train_arguments


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        yield "gs://bucket"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    client.close()
    try:
        yield "s3://bucket"
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
def test_a_bucket_gives_the_same_result_as_the_disk(
    scheme: str,
    request: pytest.FixtureRequest,
    run: Callable[..., Done],
    squares: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    bucket: str = request.getfixturevalue(scheme)
    transfer.push(squares, at(f"{bucket}/data"))
    done = run(*train_arguments(f"{bucket}/data", f"{bucket}/run", tmp_path / "work"))
    assert done.code == 0, done.stderr
    output: Store = at(f"{bucket}/run")
    names = {info.name for info in output.list()}
    assert {"report.json", "export/1/saved_model.pb", "config.yaml", "dataset.csv"} <= names
    assert "lease.json" not in names
    assert any(name.startswith("logs/events") for name in names)
    transfer.pull(output, tmp_path / "copy")
    assert_same_result(undisturbed, tmp_path / "copy")
    again = run("predict", f"{bucket}/run", f"{bucket}/data/green", "--output", f"{bucket}/predictions.jsonl")
    assert again.code == 0, again.stderr
    lines = at(bucket).read("predictions.jsonl").decode().splitlines()
    assert len(lines) == 24
    assert json.loads(lines[0])["predictions"][0]["class"] in {"red", "green", "blue"}
