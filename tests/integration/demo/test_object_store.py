"""Google's own client finds in the embedded object store what it finds in Cloud Storage.

Here: buckets, uploads, downloads, transfer_manager, the store as a process. The rest of the feature table is in
the files beside this one.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage import transfer_manager

MIB = 1024 * 1024


def bytes_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(bucket: storage.Bucket, name: str, data: bytes = b"x", **options: object) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **options)
    return blob


# Buckets


def test_buckets_are_created_found_listed_patched_and_deleted(client: storage.Client) -> None:
    created = client.create_bucket("photos")
    client.create_bucket("runs")
    assert created.metageneration == 1
    assert [bucket.name for bucket in client.list_buckets()] == ["photos", "runs"]
    assert [bucket.name for bucket in client.list_buckets(prefix="r")] == ["runs"]

    created.labels = {"team": "vision"}
    created.patch()
    found = client.get_bucket("photos")
    assert found.labels == {"team": "vision"}
    assert found.metageneration == 2
    assert found.test_iam_permissions(["storage.objects.create"]) == ["storage.objects.create"]

    found.delete()
    assert client.lookup_bucket("photos") is None


def test_a_bucket_in_use_or_in_the_way_is_a_conflict(client: storage.Client, bucket: storage.Bucket) -> None:
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("photos")
    put(bucket, "cat.jpg")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    with pytest.raises(exceptions.BadRequest, match="Invalid bucket name"):
        client.create_bucket("No_Capitals")


def test_a_missing_bucket_or_object_is_not_found(client: storage.Client, bucket: storage.Bucket) -> None:
    with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
        client.get_bucket("nowhere")
    with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
        list(client.list_blobs("nowhere"))
    with pytest.raises(exceptions.NotFound, match=r"No such object: photos/dog\.jpg"):
        bucket.blob("dog.jpg").download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        put(client.bucket("nowhere"), "cat.jpg")
    assert bucket.get_blob("dog.jpg") is None


# Uploads


@pytest.mark.parametrize("name", ["cat.jpg", "a/b c/ü%2F+&?#[x].jpg", "ends/", " "])
def test_a_multipart_upload_comes_back_unchanged(bucket: storage.Bucket, name: str) -> None:
    data = b"\r\n--====\r\n" + bytes_of(70_000)
    blob = bucket.blob(name)
    blob.metadata = {"label": "cat"}
    blob.upload_from_string(data, content_type="image/jpeg", checksum="crc32c")
    found = bucket.get_blob(name)
    assert found is not None
    assert (found.name, found.size, found.content_type) == (name, len(data), "image/jpeg")
    assert (found.metadata, found.metageneration) == ({"label": "cat"}, 1)
    assert found.download_as_bytes(checksum="crc32c") == data
    assert found.download_as_bytes(checksum="md5") == data
    assert found.generation == blob.generation


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 512 * 1024, 700_001])
@pytest.mark.parametrize("is_size_known", [True, False])
def test_a_resumable_upload_in_chunks_comes_back_unchanged(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch, size: int, is_size_known: bool
) -> None:
    # The client takes the resumable way above this size only, or where it does not know the size.
    monkeypatch.setattr("google.cloud.storage.blob._MAX_MULTIPART_SIZE", -1)
    data = bytes_of(size)
    blob = bucket.blob("big.bin", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), size=size if is_size_known else None, checksum="crc32c")
    assert bucket.blob("big.bin").download_as_bytes() == data
    assert bucket.get_blob("big.bin").md5_hash == base64.b64encode(hashlib.md5(data).digest()).decode()


def test_a_streamed_upload_is_there_when_it_is_closed_and_not_before(bucket: storage.Bucket) -> None:
    data = bytes_of(600_000)
    with bucket.blob("stream").open("wb", chunk_size=256 * 1024, ignore_flush=True) as stream:
        stream.write(data)
        assert not bucket.blob("stream").exists()
    assert bucket.blob("stream").download_as_bytes() == data


def test_a_large_file_goes_up_by_itself_as_a_resumable_upload(bucket: storage.Bucket, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes_of(9 * MIB))
    bucket.blob("big").upload_from_filename(str(tmp_path / "big"), checksum="md5")
    bucket.blob("big").download_to_filename(str(tmp_path / "again"), checksum="md5")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "big").read_bytes()


@pytest.mark.parametrize(("field", "size"), [("crc32c", 4), ("md5_hash", 16)])
def test_an_upload_with_a_wrong_checksum_is_refused_and_stores_nothing(
    bucket: storage.Bucket, field: str, size: int
) -> None:
    blob = bucket.blob("cat.jpg")
    setattr(blob, field, base64.b64encode(b"\0" * size).decode())
    with pytest.raises(exceptions.BadRequest, match="doesn't match calculated"):
        blob.upload_from_string(b"meow", checksum=None)
    assert not bucket.blob("cat.jpg").exists()


# Downloads


def test_ranges_are_cut_as_asked_and_past_the_end_is_an_error(bucket: storage.Bucket) -> None:
    put(bucket, "letters", b"abcdefghij")
    blob = bucket.blob("letters")
    assert blob.download_as_bytes(start=2, end=4) == b"cde"
    assert blob.download_as_bytes(start=7) == b"hij"
    assert blob.download_as_bytes(start=-3) == b"hij"
    assert blob.download_as_bytes(start=8, end=100) == b"ij"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)
    with blob.open("rb", chunk_size=4) as stream:
        assert stream.read() == b"abcdefghij"


def test_gzip_content_is_decompressed_unless_the_reader_wants_it_raw(bucket: storage.Bucket) -> None:
    text = b"label,image\n" * 1000
    blob = bucket.blob("labels.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(text), content_type="text/csv")
    assert bucket.blob("labels.csv").download_as_bytes() == text
    assert gzip.decompress(bucket.blob("labels.csv").download_as_bytes(raw_download=True)) == text
    assert bucket.get_blob("labels.csv").size == len(gzip.compress(text))


# transfer_manager


def test_many_files_go_up_and_come_down(bucket: storage.Bucket, tmp_path: Path) -> None:
    names = [f"class {number % 3}/{number}.jpg" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(bytes_of(5000 + number, number))
    threads = {"worker_type": transfer_manager.THREAD, "max_workers": 4}
    results = transfer_manager.upload_many_from_filenames(
        bucket, names, source_directory=str(tmp_path / "up"), **threads
    )
    assert results == [None] * len(names)
    results = transfer_manager.download_many_to_path(bucket, names, str(tmp_path / "down"), **threads)
    assert results == [None] * len(names)
    assert all((tmp_path / "down" / name).read_bytes() == (tmp_path / "up" / name).read_bytes() for name in names)


def test_one_file_goes_up_and_comes_down_in_parallel_chunks(bucket: storage.Bucket, tmp_path: Path) -> None:
    data = bytes_of(12 * MIB)
    (tmp_path / "up").write_bytes(data)
    threads = {"worker_type": transfer_manager.THREAD, "max_workers": 3}
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "up"), bucket.blob("a/big"), chunk_size=5 * MIB, **threads
    )
    found = bucket.get_blob("a/big")
    assert (found.size, found.md5_hash) == (len(data), None)
    transfer_manager.download_chunks_concurrently(found, str(tmp_path / "down"), chunk_size=5 * MIB, **threads)
    assert (tmp_path / "down").read_bytes() == data


# As a process


def test_the_emulator_variable_leads_any_client_to_a_store_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(b"meow")
    command = [sys.executable, "-m", "job.demo.object_store", "--port", "0", "--folder", str(tmp_path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", process.stdout.readline().strip())
        monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        client = storage.Client()
        (blob,) = client.list_blobs("photos")
        assert (blob.name, blob.content_type, blob.download_as_bytes()) == ("cat/1.jpg", "image/jpeg", b"meow")
        client.close()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize(("folder", "message"), [("missing", "is not there"), (".", "cannot be a bucket")])
def test_a_folder_that_cannot_be_served_is_refused(tmp_path: Path, folder: str, message: str) -> None:
    (tmp_path / "NotABucket").mkdir()
    command = [sys.executable, "-m", "job.demo.object_store", "--folder", str(tmp_path / folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], env=os.environ)
    assert done.returncode in (2, 66)
    assert message in done.stderr
    assert "Next:" in done.stderr
