"""The buckets and objects themselves: generations, preconditions, atomic writes. All in memory.

Stored objects are frozen: a write puts a new one in their place, so that readers need no lock.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from job.demo.object_store.checksums import verify
from job.demo.object_store.errors import ApiError, condition_not_met, no_such_bucket, no_such_object

# https://cloud.google.com/storage/docs/buckets#naming
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
SETTINGS = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "eventBasedHold",
    "metadata",
    "storageClass",
    "temporaryHold",
)
"""What of an object's description its owner may write."""

Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of one object.

    Attributes:
        settings: Keys of `SETTINGS`; `metadata` is a dict of strings.
        md5: Base64; None for composed objects and XML multipart uploads: Cloud Storage gives none for them.
        created_ns: Nanoseconds since 1970, likewise `updated_ns`.
        num_components: Of a composed object.
    """

    bucket: str
    name: str
    data: bytes | bytearray
    generation: int
    settings: Settings
    crc32c: str
    md5: str | None
    created_ns: int
    updated_ns: int
    metageneration: int = 1
    num_components: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request demands of the live object. Generation 0 stands for "there is none"."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of_query(cls, query: Mapping[str, str | None], prefix: str = "if") -> Conditions:
        """Reads `ifGenerationMatch` and its kin (`ifSource…` with that prefix)."""
        words = ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")
        return cls(*(integer(query, prefix + word) for word in words))

    def check(self, live: StoredObject | None, *, is_read: bool = False) -> None:
        """Raises ApiError 412, or 304 for a read that wanted something else than what is there."""
        generation = live.generation if live else 0
        metageneration = live.metageneration if live else None
        if self.generation_match not in (None, generation) or self.metageneration_match not in (None, metageneration):
            raise condition_not_met()
        if self.generation_not_match == generation or (
            self.metageneration_not_match is not None and self.metageneration_not_match == metageneration
        ):
            raise ApiError(304, "notModified", "Not Modified") if is_read else condition_not_met()


def integer(query: Mapping[str, str | None], key: str) -> int | None:
    """Returns a whole number of a query (or of JSON, where null is nothing), None where it is not given."""
    value = query.get(key)
    try:
        return None if value is None else int(value)
    except ValueError:
        raise ApiError(400, "invalid", f"Invalid value for {key}: {value!r} is not a whole number.") from None


@dataclass(slots=True)
class Bucket:
    name: str
    created_ns: int
    settings: dict[str, object] = field(default_factory=dict)
    metageneration: int = 1
    objects: dict[str, StoredObject] = field(default_factory=dict)


class Contents:
    """Everything that is stored. Safe to call from several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self._last_generation = 0

    def create_bucket(self, name: str, settings: Settings | None = None) -> Bucket:
        if not BUCKET_NAME.fullmatch(name):
            raise ApiError(400, "invalid", f"Invalid bucket name: '{name}'")
        with self.lock:
            if name in self.buckets:
                raise ApiError(409, "conflict", f"The bucket {name} exists already, and you own it.")
            bucket = self.buckets[name] = Bucket(name, time.time_ns(), dict(settings or {}))
        return bucket

    def bucket(self, name: str) -> Bucket:
        try:
            return self.buckets[name]
        except KeyError:
            raise no_such_bucket() from None

    def get(self, bucket: str, name: str, *, query: Mapping[str, str] | None = None, prefix: str = "") -> StoredObject:
        """Returns the live object, for a read.

        Args:
            query: May ask for a `generation` (404 when it is not the live one) and set conditions.
            prefix: "source" for the source of a copy.
        """
        query = query or {}
        live = self.bucket(bucket).objects.get(name)
        if live is None:
            raise no_such_object(bucket, name)
        generation = integer(query, "sourceGeneration" if prefix else "generation")
        if generation not in (None, live.generation):
            raise no_such_object(bucket, f"{name}#{generation}")
        Conditions.of_query(query, "if" + prefix.capitalize()).check(live, is_read=not prefix)
        return live

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes | bytearray,
        *,
        settings: Settings,
        conditions: Conditions | None = None,
        expected: dict[str, str] | None = None,
        has_md5: bool = True,
        num_components: int | None = None,
    ) -> StoredObject:
        """Stores a new generation, atomically, when the checksums and then the conditions hold.

        Args:
            data: Belongs to the store from now on.
            expected: `crc32c` and `md5Hash` as the sender knows them.
        """
        if not name or len(name.encode()) > 1024 or "\n" in name or "\r" in name or name in (".", ".."):
            raise ApiError(400, "invalid", f"Invalid object name: {name!r}")
        self.bucket(bucket)
        crc32c, md5 = verify(data, expected or {})
        chosen = {key: value for key, value in settings.items() if key in SETTINGS and value is not None}
        with self.lock:
            objects = self.bucket(bucket).objects
            (conditions or Conditions()).check(objects.get(name))
            now_ns = time.time_ns()
            # Microseconds, as Cloud Storage's look; two writes within one still differ.
            self._last_generation = max(self._last_generation + 1, now_ns // 1000)
            stored = StoredObject(
                bucket=bucket,
                name=name,
                data=data,
                generation=self._last_generation,
                settings=chosen,
                crc32c=crc32c,
                md5=md5 if has_md5 else None,
                created_ns=now_ns,
                updated_ns=now_ns,
                num_components=num_components,
            )
            objects[name] = stored
        return stored

    def change(
        self, bucket: str, name: str, query: Mapping[str, str], new: Callable[[Settings], Settings]
    ) -> StoredObject:
        """Replaces the live object's settings by `new(settings)`; its content and generation stay."""
        with self.lock:
            live = self._for_change(bucket, name, query)
            changed = replace(
                live, settings=new(live.settings), metageneration=live.metageneration + 1, updated_ns=time.time_ns()
            )
            self.buckets[bucket].objects[name] = changed
        return changed

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        with self.lock:
            self._for_change(bucket, name, query)
            del self.buckets[bucket].objects[name]

    def _for_change(self, bucket: str, name: str, query: Mapping[str, str]) -> StoredObject:
        live = self.get(bucket, name, query={key: query[key] for key in ("generation",) if key in query})
        Conditions.of_query(query).check(live)
        return live
