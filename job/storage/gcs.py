"""gs:// as a `Store`; the only module that imports google.cloud.

The official client lists, describes, writes and deletes; bodies are read by `gcs_media`. Every write that
may be repeated carries a generation precondition, so that a late twin of a request cannot undo a newer one.
What the client does under each fault was measured; where its answer is wrong, a comment says so.
"""

from __future__ import annotations

import functools
import io
import mimetypes
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import google.auth
from google.auth.credentials import AnonymousCredentials

from job.errors import ConfigError, InputMissingError, TemporaryError
from job.storage import checksum, disk
from job.storage.absent import absent
from job.storage.gcs_errors import translate
from job.storage.gcs_media import Media, Received
from job.storage.requests_lean import requests, transport
from job.storage.retry import PassingError, Policy, Retrier, waited
from job.storage.store import ABSENT, SMALL_BYTES, ObjectInfo, Steps, conflict

with absent("grpc", "opentelemetry"):  # gcs_errors.py says why; tracing costs 1 MB
    from google.api_core import exceptions as api
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY

# Otherwise each client asks for the bucket's metadata in the background, which needs storage.buckets.get.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

_RESUMABLE_ABOVE_BYTES = 8 << 20
_CHUNK_BYTES = 16 << 20
_PAGE_SIZE = 1000
_POOL_SIZE = 64
_FIELDS = "items(name,size,generation,crc32c),nextPageToken"


class GcsStore:
    """Objects below `gs://bucket/prefix/`. Making one contacts nothing; clients are shared in the process.

    Args:
        uri: As the user wrote it.
        bucket: Name.
        prefix: Without slashes at its ends, "" for the whole bucket.
        policy: Patience; tests shorten it.
    """

    def __init__(self, uri: str, bucket: str, prefix: str, *, policy: Policy | None = None) -> None:
        self._uri = uri.rstrip("/")
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._retry = Retrier(translate, policy or Policy())
        # A server may think for a while about an upload's last chunk, so only the connection is on the short leash.
        self._timeout = (self._retry.policy.connect_timeout_s, 6 * self._retry.policy.progress_timeout_s)

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def num_retries(self) -> int:
        return self._retry.num_retries

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        token: str | None = None
        while True:
            page = functools.partial(self._page, self._prefix + prefix, token)
            infos, token = self._retry.run("listing", self._full(prefix), page)
            yield from infos
            if not token:
                return

    def stat(self, name: str) -> ObjectInfo | None:
        return self._retry.run("describing", self._full(name), lambda _: self._describe(name))

    def read(self, name: str) -> bytes:
        def work(_: int) -> bytes:
            body = io.BytesIO()
            got = self._fetch(name, body.write)
            stated = got.stated_crc32c or getattr(self._describe(name), "checksum", "")
            _demand(got, len(body.getbuffer()), stated)
            return body.getvalue()

        return self._retry.run("reading", self._full(name), work)

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        expected = (len(data), checksum.of_bytes(data, "crc32c"))
        seen = if_version

        def work(attempt: int) -> ObjectInfo:
            nonlocal seen
            if seen is None:
                seen = _version(self._describe(name))
            blob = self._bucket.blob(self._key(name))
            try:
                blob.upload_from_string(
                    data,
                    _content_type(name),
                    checksum="crc32c",
                    if_generation_match=0 if seen == ABSENT else int(seen),
                    timeout=self._timeout,
                    retry=None,
                )
            except api.PreconditionFailed as error:
                # After a lost answer the precondition fails because our own write was stored.
                there = self._describe(name) if attempt > 1 else None
                if there is not None and (there.size_bytes, there.checksum) == expected:
                    return there
                raise conflict(self._full(name), seen) from error
            return self._info(blob)

        return self._retry.run("writing", self._full(name), work)

    def download(self, info: ObjectInfo, to: Path) -> None:
        waited(self.downloading(info, to))

    def downloading(self, info: ObjectInfo, to: Path) -> Steps[int]:
        if info.size_bytes > SMALL_BYTES:
            with disk.arriving(to, info.size_bytes) as file:
                yield from self._received(info, file.write, file.empty)
                return file.modified_ns()
        pieces: list[bytes] = []
        yield from self._received(info, pieces.append, pieces.clear)
        with disk.arriving(to, info.size_bytes) as file:
            file.write(b"".join(pieces))
            return file.modified_ns()

    def _received(
        self, info: ObjectInfo, write: Callable[[bytes], object], again: Callable[[], None]
    ) -> Generator[float, None, None]:
        """Hands an object's bytes to `write`, whole and right after the last `again`."""

        def work(attempt: int) -> Generator[None, None, None]:
            if attempt > 1:
                again()
            got = yield from self._fetching(info.name, write, info)
            _demand(got, info.size_bytes, info.checksum)

        try:
            yield from self._retry.by_steps("downloading", self._full(info.name), work, size_bytes=info.size_bytes)
        except InputMissingError as error:
            if self.stat(info.name) is None:
                raise
            raise TemporaryError(
                f"{self._full(info.name)} was overwritten after it was listed",
                next_step="Let whatever writes there finish, then start the job again.",
            ) from error

    def upload(self, source: Path, name: str) -> ObjectInfo:
        full = self._full(name)
        with disk.border(str(source), source), source.open("rb") as stream:
            # A log file may grow meanwhile: what it holds now is what is sent and compared.
            size_bytes = os.fstat(stream.fileno()).st_size
            crc32c = checksum.of_stream(stream, size_bytes, "crc32c")
            seen = ""

            def work(attempt: int) -> ObjectInfo:
                nonlocal seen
                there = self._describe(name)
                if there is not None and (there.size_bytes, there.checksum) == (size_bytes, crc32c):
                    return there
                # What the first try saw is all that may be replaced: a later try must not take what somebody else
                # wrote meanwhile for something to write over.
                seen = seen or _version(there)
                if _version(there) != seen:
                    raise conflict(full, seen)
                blob = self._bucket.blob(self._key(name), chunk_size=_CHUNK_BYTES)
                is_resumable = size_bytes > _RESUMABLE_ABOVE_BYTES
                stream.seek(0)
                try:
                    blob.upload_from_file(
                        stream,
                        size=size_bytes,
                        content_type=_content_type(name),
                        checksum="crc32c",
                        if_generation_match=0 if seen == ABSENT else int(seen),
                        timeout=self._timeout,
                        retry=DEFAULT_RETRY.with_timeout(self._retry.policy.overall_s) if is_resumable else None,
                    )
                except api.PreconditionFailed as error:
                    # Ours, where the client sent a part twice; the next try sees whose it is.
                    raise PassingError("another version appeared meanwhile") from error
                except api.GoogleAPICallError as error:
                    if error.code in (404, 410) and is_resumable and attempt == 1:
                        raise PassingError("the upload session was lost") from error
                    raise
                stored = self._info(blob)
                if (stored.size_bytes, stored.checksum) != (size_bytes, crc32c):
                    seen = stored.version
                    raise PassingError("the file was rewritten while it was being sent")
                return stored

            return self._retry.run("uploading", full, work, size_bytes=size_bytes)

    def delete(self, name: str) -> None:
        def work(_: int) -> None:
            try:
                self._bucket.blob(self._key(name)).delete(timeout=self._timeout, retry=None)
            except api.NotFound:  # also when the answer to an earlier try was lost
                return

        self._retry.run("deleting", self._full(name), work)

    @property
    def _bucket(self) -> storage.Bucket:
        return _connect(self._retry.policy)[0].bucket(self._bucket_name)

    def _page(self, prefix: str, token: str | None, _: int) -> tuple[Sequence[ObjectInfo], str | None]:
        found = _connect(self._retry.policy)[0].list_blobs(
            self._bucket_name,
            prefix=prefix,
            page_token=token,
            page_size=_PAGE_SIZE,
            fields=_FIELDS,
            timeout=self._timeout,
            retry=None,
        )
        blobs = next(found.pages, ())
        return [self._info(blob) for blob in blobs if blob.name != self._prefix], found.next_page_token

    def _describe(self, name: str) -> ObjectInfo | None:
        if not self._key(name):
            return None
        blob = self._bucket.get_blob(self._key(name), timeout=self._timeout, retry=None)
        return None if blob is None else self._info(blob)

    def _fetch(self, name: str, write: Callable[[bytes], object]) -> Received:
        return waited(self._fetching(name, write))

    def _fetching(
        self, name: str, write: Callable[[bytes], object], info: ObjectInfo | None = None
    ) -> Generator[None, None, Received]:
        return _connect(self._retry.policy)[1].fetching(
            self._bucket_name,
            self._key(name),
            write,
            generation=info.version if info else "",
            limit_s=self._retry.policy.try_s(info.size_bytes if info else 0),
        )

    def _info(self, blob: storage.Blob) -> ObjectInfo:
        name = "" if blob.name == self._prefix.rstrip("/") else blob.name.removeprefix(self._prefix)
        crc32c = checksum.from_base64(blob.crc32c or "")
        return ObjectInfo(name, int(blob.size), str(blob.generation), crc32c, "crc32c" if crc32c else "")

    def _key(self, name: str) -> str:
        return self._prefix + name if name else self._prefix.rstrip("/")

    def _full(self, name: str) -> str:
        return f"{self._uri}/{name}" if name else self._uri


def _demand(got: Received, size_bytes: int, crc32c: str) -> None:
    """Refuses a body that is not whole and right; the client's own check misses some of these."""
    if got.size_bytes != size_bytes:
        raise PassingError(f"{got.size_bytes:,} of {size_bytes:,} bytes came", is_broken=True)
    if crc32c and got.crc32c != crc32c:
        raise PassingError(f"the content came damaged: crc32c {got.crc32c}, expected {crc32c}", is_broken=True)


def _version(info: ObjectInfo | None) -> str:
    return ABSENT if info is None else info.version


def _content_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


@functools.lru_cache(maxsize=8)
def _connected(emulator: str, key_file: str, process: int, policy: Policy) -> tuple[storage.Client, Media]:
    del key_file, process  # part of the key: a forked process must not share sockets
    if emulator and "://" not in emulator:
        raise ConfigError(
            f"STORAGE_EMULATOR_HOST is {emulator!r}, without a scheme", next_step=f"Set it to http://{emulator}."
        )
    credentials = AnonymousCredentials() if emulator else google.auth.default(scopes=storage.Client.SCOPE)[0]
    session = transport.AuthorizedSession(credentials)
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE))
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_POOL_SIZE))
    # project=None: object methods need none, and asking for one fails on machines that have only a key.
    client = storage.Client(project=None, credentials=credentials, _http=session)
    return client, Media(None if emulator else credentials, client.api_endpoint.rstrip("/"), policy)


def _connect(policy: Policy) -> tuple[storage.Client, Media]:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    return _connected(emulator, os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", ""), os.getpid(), policy)
