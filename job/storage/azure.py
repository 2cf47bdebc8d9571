"""az:// as a `Store`; the only module that imports azure.storage.

Microsoft's client signs, lists, describes and writes; its own tries are off, since `Retrier` has the patience. Bodies
come in ranges of 4 MiB, the most whose MD5 the service tells, so that each is checked on its way, and the whole
against the Content-MD5 that the listing shows.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import requests
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential, TokenCredential
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobBlock, BlobClient, BlobProperties, BlobServiceClient, ContentSettings

from job.errors import AccessError, ConfigError
from job.storage import checksum, parts
from job.storage.azure_errors import LOGIN, translate
from job.storage.conditional import Body, ConditionalStore, Found
from job.storage.retry import PassingError, Policy
from job.storage.store import ABSENT, ObjectInfo

_RANGE_BYTES = 4 << 20
_POOL_SIZE = 64
"""Connections kept open: more than the threads of a pull, so that none waits for a handshake."""


class AzureStore(ConditionalStore):
    """Objects below `az://container/prefix/` of the account that the environment names. Making one contacts nothing.

    Args:
        uri: As the user wrote it.
        container: Name.
        prefix: Without slashes at its ends, "" for the whole container.
        policy: Patience; tests shorten it.

    Raises:
        AccessError: The environment names no account.
    """

    most_parts = 50_000

    def __init__(self, uri: str, container: str, prefix: str, *, policy: Policy | None = None) -> None:
        super().__init__(uri, prefix, translate, policy or Policy())
        self._container = container
        if not any(os.environ.get(name) for name in (_CONNECTION, _ENDPOINT, *_ACCOUNT)):
            raise AccessError(f"{uri} is in no account: AZURE_STORAGE_ACCOUNT_NAME is not set", next_step=LOGIN)

    @property
    def _service(self) -> BlobServiceClient:
        names = sorted(name for name in os.environ if name.startswith("AZURE_"))
        try:
            return _connected(tuple((name, os.environ[name]) for name in names), os.getpid(), self._policy)
        except ValueError as error:
            raise ConfigError(f"{self._uri} cannot be used: {error}", next_step=LOGIN) from error

    def _page(self, prefix: str, token: str, _: int) -> tuple[Sequence[ObjectInfo], str]:
        found = self._service.get_container_client(self._container).list_blobs(name_starts_with=prefix or None)
        pages = found.by_page(token or None)
        infos = [self._found(self._name(blob.name), blob).info for blob in next(pages, ())]
        return infos, str(getattr(pages, "continuation_token", None) or "")

    def _find(self, name: str) -> Found | None:
        try:
            return self._found(name, self._blob(name).get_blob_properties())
        except ResourceNotFoundError:
            return None

    @contextlib.contextmanager
    def _open(self, name: str, version: str, first: int) -> Iterator[Body]:
        answer = self._blob(name).download_blob(
            offset=first or None,  # an empty blob has no range
            validate_content=True,
            read_timeout=self._policy.progress_timeout_s,
            **(_condition(version) if version else {}),
        )
        yield Body(self._found(name, answer.properties), answer.chunks())

    def _put(self, name: str, data: bytes, md5: str, seen: str) -> ObjectInfo:
        answer = self._blob(name).upload_blob(
            data,
            length=len(data),
            overwrite=True,  # what the condition allows
            validate_content=True,
            content_settings=ContentSettings(content_md5=bytearray.fromhex(md5)),
            **_condition(seen),
        )
        return _written(name, len(data), md5, answer)

    def _sender(self, name: str, whole: parts.Cut) -> Callable[[str], ObjectInfo]:
        blob, full = self._blob(name), self._full(name)

        def stage(part: parts.Part, data: bytes) -> None:
            def work(_: int) -> None:
                blob.stage_block(_block_id(part), data, length=part.size_bytes, validate_content=True)

            self._retry.run(f"uploading part {part.number} of", full, work, size_bytes=part.size_bytes)

        def send(seen: str) -> ObjectInfo:
            there = _staged(blob)
            whole.send([part for part in whole.parts if _block_id(part) not in there], stage)
            answer = blob.commit_block_list(
                [BlobBlock(block_id=_block_id(part)) for part in whole.parts],
                content_settings=ContentSettings(content_md5=bytearray.fromhex(whole.md5)),
                **_condition(seen),
            )
            return _written(name, whole.size_bytes, whole.md5, answer)

        return send

    def _remove(self, name: str) -> None:
        self._blob(name).delete_blob()

    def _blob(self, name: str) -> BlobClient:
        return self._service.get_blob_client(self._container, self._key(name))

    def _found(self, name: str, blob: BlobProperties) -> Found:
        md5 = bytes(blob.content_settings.content_md5 or b"").hex()
        return Found(ObjectInfo(name, blob.size, _quoted(blob.etag), md5, "md5" if md5 else ""), md5)


def _block_id(part: parts.Part) -> str:
    """Returns a name that tells place and content, so that what another process sent is recognised.

    32 characters, as those of Microsoft's own tools: all blocks of a blob must have names of one length, those that
    another upload left behind too (REST reference, "Put Block").
    """
    return f"{part.number:05d}{part.md5[:27]}"


def _staged(blob: BlobClient) -> set[str]:
    """Returns the names of the blocks that are there and in no blob yet; the service keeps them for a week."""
    try:
        return {block.id for block in blob.get_block_list("uncommitted")[1]}
    except ResourceNotFoundError:
        return set()


def _condition(seen: str) -> dict[str, Any]:
    """Returns what lets a request have `seen` and nothing else."""
    if seen == ABSENT:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": seen, "match_condition": MatchConditions.IfNotModified}


def _written(name: str, size_bytes: int, md5: str, answer: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(name, size_bytes, _quoted(answer["etag"]), md5, "md5")


def _quoted(e_tag: str) -> str:
    """Returns an ETag with the quotes that Azure's listing leaves out (REST reference, "List Blobs")."""
    return e_tag if e_tag.endswith('"') else f'"{e_tag}"'


_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_ENDPOINT = "AZURE_STORAGE_ENDPOINT"
# The second of each is what Azure's command line reads.
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_KEY = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
_SAS = ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN")


@functools.lru_cache(maxsize=8)
def _connected(environment: tuple[tuple[str, str], ...], process: int, policy: Policy) -> BlobServiceClient:
    del process  # part of the key: a forked process must not share sockets
    said = dict(environment)
    options: dict[str, Any] = {
        "transport": _transport(policy),
        "retry_total": 0,
        "connection_timeout": policy.connect_timeout_s,
        "read_timeout": 6 * policy.progress_timeout_s,  # a service may think for a while about many blocks
        "max_single_get_size": _RANGE_BYTES,
        "max_chunk_get_size": _RANGE_BYTES,
    }
    if said.get(_CONNECTION):
        return BlobServiceClient.from_connection_string(said[_CONNECTION], **options)
    account = _first(said, _ACCOUNT)
    url = said.get(_ENDPOINT) or f"https://{account}.blob.core.windows.net"
    return BlobServiceClient(url, _credential(said, account), **options)


def _credential(
    said: Mapping[str, str], account: str
) -> AzureNamedKeyCredential | AzureSasCredential | TokenCredential:
    if key := _first(said, _KEY):
        return AzureNamedKeyCredential(account, key)
    if sas := _first(said, _SAS):
        return AzureSasCredential(sas.removeprefix("?"))
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def _first(said: Mapping[str, str], names: Sequence[str]) -> str:
    return next((said[name] for name in names if said.get(name)), "")


def _transport(policy: Policy) -> RequestsTransport:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(policy))
    return RequestsTransport(session=session, session_owner=False)


class _Adapter(requests.adapters.HTTPAdapter):
    """Many connections, and an end to answers that drip: a time-out between two bytes never ends those."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(pool_maxsize=_POOL_SIZE)
        self._policy = policy

    def build_response(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """Returns the answer; its body comes as it arrives. read(n), in its place, would wait for n bytes."""

        def stream(num_bytes: int, decode_content: bool | None = None) -> Iterator[bytes]:
            started_s, size_bytes = time.monotonic(), 0
            limit_s = self._policy.try_s(int(raw.headers.get("Content-Length", 0)))
            try:
                while chunk := raw.read1(max(num_bytes, checksum.CHUNK_BYTES), decode_content):
                    yield chunk
                    size_bytes += len(chunk)
                    if time.monotonic() - started_s > limit_s:
                        raise PassingError(f"only {size_bytes:,} bytes came in {limit_s:.0f} s")
            except BaseException:
                raw.close()  # the client closes no connection whose body it gave up
                raise

        raw.stream = stream
        return super().build_response(request, raw)
