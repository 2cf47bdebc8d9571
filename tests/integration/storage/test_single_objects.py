"""A store of one object's own URI: weights files, archives and manifests are named that way."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.storage import at


@pytest.mark.parametrize("scheme", ["file", "gs", "s3", "az"])
def test_an_object_is_described_read_and_copied_by_its_own_uri(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if scheme == "gs":
        server: ObjectStore = request.getfixturevalue("gcs_server")
        server.put("photos", "set/w.weights.h5", b"numbers")
        uri = "gs://photos/set/w.weights.h5"
    elif scheme == "s3":
        request.getfixturevalue("s3_client").put_object(Bucket="photos", Key="set/w.weights.h5", Body=b"numbers")
        uri = "s3://photos/set/w.weights.h5"
    elif scheme == "az":
        request.getfixturevalue("az_put")("w.weights.h5", b"numbers")
        uri = f"az://{request.getfixturevalue('az_container').container_name}/set/w.weights.h5"
    else:
        (tmp_path / "w.weights.h5").write_bytes(b"numbers")
        uri = f"file://{tmp_path}/w.weights.h5"
    store = at(uri)
    info = store.stat("")
    assert info is not None
    assert (info.name, info.size_bytes) == ("", 7)
    assert store.read("") == b"numbers"
    store.download(info, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"numbers"
