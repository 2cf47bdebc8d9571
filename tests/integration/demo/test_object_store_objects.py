"""Listings, compose, copy, patch and batches of the embedded object store, through Google's own client."""

from __future__ import annotations

import random

import pytest
from google.api_core import exceptions
from google.cloud import storage

from job.demo.object_store import ObjectStore


def bytes_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(bucket: storage.Bucket, name: str, data: bytes = b"x", **options: object) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **options)
    return blob


# Listings


def test_pages_hold_a_thousand_and_max_results_is_honoured(
    client: storage.Client, store: ObjectStore, bucket: storage.Bucket
) -> None:
    names = [f"{number:04}.jpg" for number in range(2500)]
    for name in reversed(names):
        store.put("photos", name, b"")
    assert [len(list(page)) for page in client.list_blobs("photos").pages] == [1000, 1000, 500]
    assert [blob.name for blob in client.list_blobs("photos")] == names
    assert [blob.name for blob in client.list_blobs("photos", max_results=10)] == names[:10]
    assert [len(list(page)) for page in client.list_blobs("photos", page_size=900).pages] == [900, 900, 700]
    assert [len(list(page)) for page in client.list_blobs("photos", page_size=5000).pages] == [1000, 1000, 500]


def test_listings_are_cut_by_prefix_delimiter_offsets_and_glob(client: storage.Client, bucket: storage.Bucket) -> None:
    # The example of https://cloud.google.com/storage/docs/json_api/v1/objects/list
    for name in ("a/b", "a/c", "d", "e", "e/f", "e/g/h", "train/cat/1.jpg", "train/cat/2.png", "train/"):
        put(bucket, name)

    def listed(**options: object) -> tuple[list[str], list[str]]:
        found = client.list_blobs("photos", **options)
        return [blob.name for blob in found], sorted(found.prefixes)

    assert listed(delimiter="/") == (["d", "e"], ["a/", "e/", "train/"])
    assert listed(delimiter="/", page_size=1) == (["d", "e"], ["a/", "e/", "train/"])
    assert listed(delimiter="/", prefix="e/") == (["e/f"], ["e/g/"])
    assert listed(delimiter="/", include_trailing_delimiter=True) == (["d", "e", "train/"], ["a/", "e/", "train/"])
    assert listed(prefix="a/") == (["a/b", "a/c"], [])
    assert listed(prefix="nothing") == ([], [])
    assert listed(start_offset="a/c", end_offset="e/f") == (["a/c", "d", "e"], [])
    assert listed(match_glob="**.jpg") == (["train/cat/1.jpg"], [])
    assert listed(match_glob="train/*/?.{jpg,png}") == (["train/cat/1.jpg", "train/cat/2.png"], [])
    assert listed(match_glob="*") == (["d", "e"], [])
    assert listed(match_glob="[!d]") == (["e"], [])
    assert listed(match_glob="**/h") == (["e/g/h"], [])


def test_a_listing_of_chosen_fields_has_nothing_else(client: storage.Client, bucket: storage.Bucket) -> None:
    put(bucket, "a")
    put(bucket, "b")
    first, second = client.list_blobs("photos", fields="items(name,size),items/crc32c,nextPageToken", page_size=1)
    assert first._properties.keys() == {"name", "size", "crc32c"}
    assert (second.name, second.size, second.generation) == ("b", 1, None)
    with pytest.raises(exceptions.BadRequest, match="Invalid field selection"):
        list(client.list_blobs("photos", fields="items(name"))


# Changes without an upload


def test_compose_joins_and_has_no_md5(bucket: storage.Bucket) -> None:
    parts = [put(bucket, f"part-{number}", bytes_of(1000, number)) for number in range(3)]
    whole = bucket.blob("whole")
    whole.content_type = "image/jpeg"
    whole.compose(parts, if_generation_match=0, if_source_generation_match=[part.generation for part in parts])
    assert whole.download_as_bytes() == b"".join(bytes_of(1000, number) for number in range(3))
    assert (whole.component_count, whole.md5_hash, whole.content_type) == (3, None, "image/jpeg")
    bucket.blob("twice").compose([whole, whole])
    assert bucket.get_blob("twice").component_count == 6
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("third").compose(parts, if_source_generation_match=[1, None, None])
    with pytest.raises(exceptions.NotFound):
        bucket.blob("third").compose([bucket.blob("nowhere")])
    with pytest.raises(exceptions.BadRequest, match="33 source components"):
        bucket.blob("third").compose([whole] * 33)
    assert not bucket.blob("third").exists()


def test_copy_rewrite_and_rename_keep_content_and_metadata(client: storage.Client, bucket: storage.Bucket) -> None:
    other = client.create_bucket("other")
    source = bucket.blob("a/cat.jpg")
    source.metadata = {"label": "cat"}
    source.upload_from_string(b"meow", content_type="image/jpeg")

    copied = bucket.copy_blob(source, other, "b/cat.jpg")
    assert (copied.md5_hash, copied.content_type, copied.metadata) == (source.md5_hash, "image/jpeg", {"label": "cat"})

    rewritten = other.blob("c.jpg")
    assert rewritten.rewrite(source, if_source_generation_match=source.generation) == (None, 4, 4)
    assert rewritten.content_type == "image/jpeg"
    retyped = other.blob("d.png")
    retyped.content_type = "image/png"
    retyped.rewrite(source)
    assert other.get_blob("d.png").content_type == "image/png"
    with pytest.raises(exceptions.PreconditionFailed):
        other.blob("e").rewrite(source, if_source_generation_match=1)

    renamed = bucket.rename_blob(source, "z/cat.jpg")
    assert renamed.download_as_bytes() == b"meow"
    assert [blob.name for blob in client.list_blobs("photos")] == ["z/cat.jpg"]


def test_patch_merges_and_update_replaces_metadata(bucket: storage.Bucket) -> None:
    blob = bucket.blob("cat.jpg")
    blob.metadata = {"a": "1", "b": "2"}
    blob.cache_control = "no-store"
    blob.upload_from_string(b"meow")
    generation = blob.generation
    blob.metadata = {"b": None, "c": "3"}
    blob.patch()
    found = bucket.get_blob("cat.jpg")
    assert found.metadata == {"a": "1", "c": "3"}
    assert (found.generation, found.metageneration, found.cache_control) == (generation, 2, "no-store")
    bucket.blob("cat.jpg").patch()  # empty
    replaced = bucket.blob("cat.jpg")
    replaced.metadata = {"d": "4"}
    replaced.update()
    found = bucket.get_blob("cat.jpg")
    assert (found.metadata, found.cache_control) == ({"d": "4"}, None)


def test_delete_removes_once(bucket: storage.Bucket) -> None:
    blob = put(bucket, "cat.jpg")
    blob.delete()
    with pytest.raises(exceptions.NotFound, match="No such object"):
        blob.delete()
    bucket.delete_blobs([blob], on_error=lambda _: None)


def test_a_batch_runs_every_part(client: storage.Client, bucket: storage.Bucket) -> None:
    blobs = [put(bucket, f"ü {number}.jpg") for number in range(5)]
    with client.batch():
        for blob in blobs[:3]:
            blob.delete()
        blobs[3].metadata = {"k": "v"}
        blobs[3].patch()
    assert [blob.name for blob in client.list_blobs("photos")] == ["ü 3.jpg", "ü 4.jpg"]
    assert bucket.get_blob("ü 3.jpg").metadata == {"k": "v"}
    batch = client.batch()
    batch.__enter__()
    bucket.blob("nowhere").delete()
    blobs[4].delete()
    with pytest.raises(exceptions.NotFound):
        batch.__exit__(None, None, None)
    assert [blob.name for blob in client.list_blobs("photos")] == ["ü 3.jpg"]
