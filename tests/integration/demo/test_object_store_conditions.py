"""Generations and conditions of the embedded object store, through Google's own client."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core import exceptions
from google.cloud import storage


def put(bucket: storage.Bucket, name: str, data: bytes = b"x", **options: object) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **options)
    return blob


def test_a_replaced_generation_is_gone(bucket: storage.Bucket) -> None:
    old = put(bucket, "marker", b"old").generation
    new = put(bucket, "marker", b"new").generation
    assert new > old
    assert bucket.blob("marker", generation=new).download_as_bytes() == b"new"
    with pytest.raises(exceptions.NotFound, match="No such object"):
        bucket.blob("marker", generation=old).download_as_bytes()
    assert bucket.get_blob("marker", generation=old) is None
    with pytest.raises(exceptions.NotFound):
        bucket.blob("marker", generation=old).delete()
    assert bucket.blob("marker").download_as_bytes() == b"new"


Attempt = Callable[..., object]
ATTEMPTS: dict[str, Attempt] = {
    "upload": lambda blob, **wrong: blob.upload_from_string(b"theirs", **wrong),
    "resumable": lambda blob, **wrong: blob.upload_from_file(io.BytesIO(b"theirs"), **wrong),
    "patch": lambda blob, **wrong: blob.patch(**wrong),
    "delete": lambda blob, **wrong: blob.delete(**wrong),
    "compose": lambda blob, **wrong: blob.compose([blob], **wrong),
    "rewrite": lambda blob, **wrong: blob.rewrite(blob, **wrong),
    "copy": lambda blob, **wrong: blob.bucket.copy_blob(blob, blob.bucket, blob.name, **wrong),
    "download": lambda blob, **wrong: blob.download_as_bytes(**wrong),
    "reload": lambda blob, **wrong: blob.reload(**wrong),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_unmet_condition_changes_nothing(bucket: storage.Bucket, name: str) -> None:
    blob = put(bucket, "lease", b"mine")
    generation = blob.generation
    unmet: list[dict[str, int]] = [{"if_generation_match": generation + 1}, {"if_metageneration_match": 7}]
    unmet_unless_changed = [{"if_generation_not_match": generation}, {"if_metageneration_not_match": 1}]
    if name != "compose":  # knows no "not"
        unmet += unmet_unless_changed
    if name in (
        "upload",
        "resumable",
    ):  # google-cloud-storage 3.17 sends "ifMetaGenerationNotMatch", which is no parameter
        unmet.pop()
    is_read = name in ("download", "reload")
    for wrong in unmet:
        refusal = exceptions.NotModified if is_read and wrong in unmet_unless_changed else exceptions.PreconditionFailed
        with pytest.raises(refusal):
            ATTEMPTS[name](bucket.blob("lease"), **wrong)
    found = bucket.get_blob("lease")
    assert (found.generation, found.metageneration, found.download_as_bytes()) == (generation, 1, b"mine")


def test_nothing_is_created_over_what_is_there(bucket: storage.Bucket) -> None:
    put(bucket, "lease", b"mine")
    for name in ("upload", "resumable"):
        with pytest.raises(exceptions.PreconditionFailed):
            ATTEMPTS[name](bucket.blob("lease"), if_generation_match=0)
        with pytest.raises(exceptions.PreconditionFailed):
            ATTEMPTS[name](bucket.blob("absent"), if_generation_match=123)
    assert [blob.name for blob in bucket.list_blobs()] == ["lease"]
    assert bucket.blob("lease").download_as_bytes() == b"mine"


def test_a_met_condition_lets_pass(bucket: storage.Bucket) -> None:
    blob = put(bucket, "lease", b"1", if_generation_match=0)
    blob.upload_from_string(b"2", if_generation_match=blob.generation)
    blob.metadata = {"holder": "a"}
    blob.patch(if_generation_match=blob.generation, if_metageneration_match=1)
    assert blob.metageneration == 2
    assert blob.download_as_bytes(if_generation_match=blob.generation, if_metageneration_match=2) == b"2"
    assert blob.download_as_bytes(if_generation_not_match=1) == b"2"
    put(bucket, "absent", b"3", if_generation_not_match=5)
    blob.delete(if_generation_match=blob.generation)
    assert not bucket.blob("lease").exists()


def test_of_parallel_creators_exactly_one_wins(bucket: storage.Bucket) -> None:
    num_writers = 8
    ready = threading.Barrier(num_writers)

    def claim(writer: int) -> bool:
        ready.wait()
        try:
            put(bucket, "lease.json", b"%d" % writer, if_generation_match=0)
        except exceptions.PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(num_writers) as pool:
        won = list(pool.map(claim, range(num_writers)))
    assert won.count(True) == 1
    assert bucket.blob("lease.json").download_as_bytes() == b"%d" % won.index(True)


def test_parallel_writers_on_a_pinned_generation_lose_no_update(bucket: storage.Bucket) -> None:
    put(bucket, "counter", b"0")

    def add_one(_: int) -> None:
        while True:
            now = bucket.get_blob("counter")
            try:
                value = int(now.download_as_bytes(if_generation_match=now.generation))
                put(bucket, "counter", b"%d" % (value + 1), if_generation_match=now.generation)
            except (exceptions.PreconditionFailed, exceptions.NotFound):
                continue
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(12)))
    assert bucket.blob("counter").download_as_bytes() == b"12"
