"""s3:// and az:// as a `Store`, through obstore (an extra).

obstore accepts damaged and short bodies without a word (measured), so sizes are always compared, and content where its
MD5 is known: S3 tells it in the ETag of an object that was written in one piece, and what is written here carries it
as metadata, since obstore shows no other checksum. Writes of the same content get the same ETag on S3, so a version
there is a content, not a moment.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore import exceptions as foreign

from job.errors import InputMissingError, TemporaryError
from job.storage import checksum, disk
from job.storage.obstore_errors import translate
from job.storage.retry import PassingError, Policy, Retrier
from job.storage.store import ABSENT, ObjectInfo, VersionConflictError, conflict

if TYPE_CHECKING:
    from obstore import PutMode, PutResult
    from obstore.store import AzureStore, S3Store

_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')
_LARGE_BYTES = 16 << 20
"""Above it an object is sent in parts, up to it in one request with a condition."""
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_MD5 = "md5"
"""The name of our metadata, valid on S3 and Azure. Whoever writes the object in another way takes it off."""


class ObstoreStore:
    """Objects below a prefix of one bucket or container.

    Args:
        uri: As the user wrote it.
        client: obstore's store of the whole bucket.
        prefix: Without slashes at its ends, "" for the whole bucket.
        has_md5: Whether a 32-digit ETag is the content's MD5.
        login: What to do about credentials.
        policy: Patience; tests shorten it.
    """

    def __init__(
        self, uri: str, client: S3Store | AzureStore, prefix: str, *, has_md5: bool, login: str, policy: Policy
    ) -> None:
        self._uri = uri.rstrip("/")
        self._client = client
        self._prefix = f"{prefix}/" if prefix else ""
        self._has_md5 = has_md5
        self._retry = Retrier(lambda error, about: translate(error, about, login), policy)

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def num_retries(self) -> int:
        return self._retry.num_retries

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        # obstore's prefixes are whole segments: "log" would not find "logs/x".
        folder = (self._prefix + prefix).rpartition("/")[0]

        def work(_: int) -> dict[str, ObjectInfo]:
            pages = obstore.list(self._client, folder or None, chunk_size=1000)
            found = (self._info(meta["path"], meta["size"], meta["e_tag"]) for page in pages for meta in page)
            return {info.name: info for info in found if info.name.startswith(prefix)}

        infos = self._retry.run("listing", self._full(prefix), work)
        # obstore drops the slash of folder placeholders ("dir/"); left in, they would block the folder.
        folders = {name[:end] for name in infos for end, letter in enumerate(name) if letter == "/"}
        yield from (infos[name] for name in sorted(infos) if name and (infos[name].size_bytes or name not in folders))

    def stat(self, name: str) -> ObjectInfo | None:
        return self._retry.run("describing", self._full(name), lambda _: self._describe(name))

    def read(self, name: str) -> bytes:
        def work(_: int) -> bytes:
            found = obstore.get(self._client, self._key(name))
            info = self._info(found.meta["path"], found.meta["size"], found.meta["e_tag"])
            data = bytes(found.bytes())
            _demand(len(data), checksum.of_bytes(data, "md5"), info, found.attributes.get(_MD5, ""))
            return data

        return self._retry.run("reading", self._full(name), work)

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        md5 = checksum.of_bytes(data, "md5")
        seen = if_version

        def work(attempt: int) -> ObjectInfo:
            nonlocal seen
            if seen is None:
                seen = _version(self._describe(name))
            try:
                done = self._put(name, data, md5, seen)
            except (foreign.AlreadyExistsError, foreign.PreconditionError, FileNotFoundError) as error:
                if isinstance(error, FileNotFoundError) and seen == ABSENT:
                    raise
                # After a lost answer the precondition fails because our own write was stored.
                if (attempt > 1 or if_version is None) and (there := self._holding(name, len(data), md5)):
                    return there
                raise conflict(self._full(name), seen) from error
            return self._info(self._key(name), len(data), done["e_tag"])

        return self._retry.run("writing", self._full(name), work)

    def download(self, info: ObjectInfo, to: Path) -> None:
        limit_s = self._retry.policy.try_s(info.size_bytes)
        with disk.replacing(to) as temp, disk.filling(to, info.size_bytes):

            def work(_: int) -> None:
                found = obstore.get(self._client, self._key(info.name), options={"if_match": info.version})
                digest, size_bytes, started_s = checksum.start("md5"), 0, time.monotonic()
                # Each piece as it comes (as fast as in MiBs, measured), so that a slow drip stays within the limit.
                stream = found.stream(min_chunk_size=1)
                with disk.border(str(to), to), temp.open("wb") as file:
                    for chunk in stream:
                        digest.update(chunk)
                        size_bytes += file.write(chunk)
                        if time.monotonic() - started_s > limit_s:
                            raise PassingError(f"only {size_bytes:,} bytes came in {limit_s:.0f} s")
                _demand(size_bytes, digest.digest().hex(), info, found.attributes.get(_MD5, ""))

            try:
                self._retry.run("downloading", self._full(info.name), work, size_bytes=info.size_bytes)
            except VersionConflictError as error:
                if self.stat(info.name) is None:  # Azure's answer where nothing is left to compare with
                    raise InputMissingError(
                        f"{self._full(info.name)} was deleted after it was listed",
                        next_step="Start the job again if that was meant; otherwise upload it again.",
                    ) from error
                raise TemporaryError(
                    f"{self._full(info.name)} was overwritten after it was listed",
                    next_step="Let whatever writes there finish, then start the job again.",
                ) from error

    def upload(self, source: Path, name: str) -> ObjectInfo:
        with disk.border(str(source), source), source.open("rb") as stream:
            # A log file may grow meanwhile: what it holds now is what is sent and compared.
            size_bytes = os.fstat(stream.fileno()).st_size
            is_in_parts = size_bytes > _LARGE_BYTES
            md5 = checksum.of_stream(stream, size_bytes, "md5")
            full, seen = self._full(name), ""

            def work(_: int) -> ObjectInfo:
                nonlocal seen
                there = self._describe(name)
                seen = seen or _version(there)  # what the first try saw is all that may be replaced
                if _version(there) != seen:
                    return self._demand_ours(name, size_bytes, md5, seen)
                stream.seek(0)
                try:
                    if is_in_parts:
                        self._put_in_parts(name, stream, size_bytes, md5, seen)
                    elif e_tag := self._put(name, stream.read(size_bytes), md5, seen)["e_tag"]:
                        seen = _quoted(e_tag)  # if it is damaged, it is ours to replace
                except (foreign.AlreadyExistsError, foreign.PreconditionError):
                    return self._demand_ours(name, size_bytes, md5, seen)
                stored, kept = self._describe_with_md5(name)
                if stored is None or stored.size_bytes != size_bytes:
                    raise PassingError(f"{stored.size_bytes if stored else 0:,} of {size_bytes:,} bytes are stored")
                if (stored.checksum or kept or md5) != md5:
                    raise PassingError("what is stored differs from the file")
                return stored

            return self._retry.run("uploading", full, work, size_bytes=size_bytes)

    def delete(self, name: str) -> None:
        def work(_: int) -> None:
            try:
                obstore.delete(self._client, self._key(name))
            except FileNotFoundError:  # S3 says nothing here, Azure does
                return

        self._retry.run("deleting", self._full(name), work)

    def _put(self, name: str, data: bytes, md5: str, seen: str) -> PutResult:
        """Writes an object in one request, which the service refuses where another version is there by now."""
        mode: PutMode = "create" if seen == ABSENT else {"e_tag": seen}
        return obstore.put(self._client, self._key(name), data, attributes={_MD5: md5}, mode=mode, use_multipart=False)

    def _put_in_parts(self, name: str, stream: BinaryIO, size_bytes: int, md5: str, seen: str) -> None:
        """Writes a large object; each part is tried again by itself.

        obstore passes no condition on with the request that makes one object of the parts. So the version is looked at
        once more when all is sent but the last five parts, 40 MiB or less: what somebody else wrote until then stays.
        Left with an error, the writer gives the parts up.
        """
        with obstore.open_writer(
            self._client,
            self._key(name),
            attributes={_MD5: md5},
            buffer_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        ) as writer:
            while size_bytes > 0 and (piece := stream.read(min(_PART_BYTES, size_bytes))):
                size_bytes -= writer.write(piece)
            if _version(self._describe(name)) != seen:
                raise conflict(self._full(name), seen)

    def _demand_ours(self, name: str, size_bytes: int, md5: str, seen: str) -> ObjectInfo:
        """Returns an object that holds our content although its answer was lost; else somebody else wrote it."""
        if there := self._holding(name, size_bytes, md5):
            return there
        raise conflict(self._full(name), seen)

    def _holding(self, name: str, size_bytes: int, md5: str) -> ObjectInfo | None:
        """Returns the object where it has this content, read where no checksum is listed; else None."""
        there = self._describe(name)
        if there is None or there.size_bytes != size_bytes:
            return None
        found = there.checksum
        if not found:
            digest = checksum.start("md5")
            for chunk in obstore.get(self._client, self._key(name), options={"if_match": there.version}).stream():
                digest.update(chunk)
            found = digest.digest().hex()
        return there if found == md5 else None

    def _describe(self, name: str) -> ObjectInfo | None:
        return self._describe_with_md5(name)[0]

    def _describe_with_md5(self, name: str) -> tuple[ObjectInfo | None, str]:
        """Returns the object, None where there is none, and the MD5 it was written with, "" where that is not known."""
        key = self._key(name)
        if not key:
            return None, ""
        try:
            found = obstore.get(self._client, key, options={"head": True})
        except FileNotFoundError:
            return None, ""
        return self._info(found.meta["path"], found.meta["size"], found.meta["e_tag"]), found.attributes.get(_MD5, "")

    def _info(self, key: str, size_bytes: int, e_tag: str | None) -> ObjectInfo:
        name = "" if key == self._prefix.rstrip("/") else key.removeprefix(self._prefix)
        version = _quoted(e_tag)
        found = _PLAIN_MD5.fullmatch(version) if self._has_md5 else None
        return ObjectInfo(name, size_bytes, version, found[1] if found else "", "md5" if found else "")

    def _key(self, name: str) -> str:
        return self._prefix + name if name else self._prefix.rstrip("/")

    def _full(self, name: str) -> str:
        return f"{self._uri}/{name}" if name else self._uri


def _quoted(e_tag: str | None) -> str:
    """Returns an ETag with the quotes that Azure's listing leaves out (REST reference, "List Blobs")."""
    return f'"{e_tag}"' if e_tag and not e_tag.endswith('"') else e_tag or ""


def _version(info: ObjectInfo | None) -> str:
    return ABSENT if info is None else info.version


def _demand(size_bytes: int, md5: str, info: ObjectInfo, kept: str) -> None:
    """Refuses a body that is not whole and right; `kept` is the MD5 it was written with, "" where that is not known."""
    if size_bytes != info.size_bytes:
        raise PassingError(f"{size_bytes:,} of {info.size_bytes:,} bytes came")
    if info.checksum and md5 != info.checksum:
        raise PassingError(
            f"the content came damaged: MD5 {md5}, expected {info.checksum} "
            "(a bucket with KMS keys lists no MD5: then set AWS_SERVER_SIDE_ENCRYPTION=aws:kms)"
        )
    if kept and md5 != kept:
        raise PassingError(f"the content is damaged: MD5 {md5}, but it was written with {kept}")
