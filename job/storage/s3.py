"""s3:// as a `Store`; the only module that imports boto3.

boto3 finds credentials, regions and endpoints and signs; its own tries are off, since `Retrier` has the patience. Each
write carries its MD5 in Content-MD5, which every service that speaks S3 checks, and its condition.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from job.errors import ConfigError
from job.storage import checksum, parts
from job.storage.conditional import Body, ConditionalStore, Found
from job.storage.retry import PassingError, Policy
from job.storage.s3_errors import LOGIN, status_of, translate
from job.storage.s3_parts import MARK, Multipart, condition
from job.storage.store import ObjectInfo

_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')
_MD5 = "md5"
"""The name of our metadata. Whoever writes the object in another way takes it off."""
_POOL_SIZE = 64
"""Connections kept open: more than the threads of a pull, so that none waits for a handshake."""


class S3Store(ConditionalStore):
    """Objects below `s3://bucket/prefix/`. Making one contacts nothing; clients are shared in the process.

    Args:
        uri: As the user wrote it.
        bucket: Name.
        prefix: Without slashes at its ends, "" for the whole bucket.
        policy: Patience; tests shorten it.
    """

    most_parts = MARK - 1

    def __init__(self, uri: str, bucket: str, prefix: str, *, policy: Policy | None = None) -> None:
        super().__init__(uri, prefix, translate, policy or Policy())
        self._bucket = bucket
        chosen = {
            "ServerSideEncryption": os.environ.get("AWS_SERVER_SIDE_ENCRYPTION", ""),
            "SSEKMSKeyId": os.environ.get("AWS_SSE_KMS_KEY_ID", ""),
        }
        self._encryption = {key: value for key, value in chosen.items() if value}

    @property
    def _client(self) -> Any:
        names = sorted(name for name in os.environ if name.startswith("AWS_"))
        try:
            return _connected(tuple((name, os.environ[name]) for name in names), os.getpid(), self._policy)
        except ValueError as error:
            raise ConfigError(f"{self._uri} cannot be used: {error}", next_step=LOGIN) from error

    def _page(self, prefix: str, token: str, _: int) -> tuple[Sequence[ObjectInfo], str]:
        more = {"ContinuationToken": token} if token else {}
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
        infos = [self._info(self._name(each["Key"]), each["Size"], each) for each in found.get("Contents", ())]
        return infos, found.get("NextContinuationToken", "")

    def _find(self, name: str) -> Found | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise
        return self._found(name, answer["ContentLength"], answer)

    @contextlib.contextmanager
    def _open(self, name: str, version: str, first: int) -> Iterator[Body]:
        options = ({"IfMatch": version} if version else {}) | ({"Range": f"bytes={first}-"} if first else {})
        answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **options)
        size_bytes = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
        if answer["ContentLength"]:
            answer["Body"].set_socket_timeout(self._policy.progress_timeout_s)
        with answer["Body"] as raw:
            yield Body(self._found(name, size_bytes, answer), _chunks(raw, answer["ContentLength"]))

    def _put(self, name: str, data: bytes, md5: str, seen: str) -> ObjectInfo:
        answer = self._client.put_object(
            Bucket=self._bucket,
            Key=self._key(name),
            Body=data,
            ContentMD5=checksum.to_base64(md5),
            Metadata={_MD5: md5},
            **self._encryption,
            **condition(seen),
        )
        return self._info(name, len(data), answer)

    def _sender(self, name: str, whole: parts.Cut) -> Callable[[str], ObjectInfo]:
        begin = {"Metadata": {_MD5: whole.md5}, **self._encryption}
        client, key = self._client, self._key(name)
        multipart = Multipart(client, self._bucket, key, whole, begin, self._retry, self._full(name))
        return lambda seen: self._info(name, whole.size_bytes, multipart.send(seen))

    def _remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def _found(self, name: str, size_bytes: int, answer: Mapping[str, Any]) -> Found:
        info = self._info(name, size_bytes, answer)
        return Found(info, info.checksum or answer.get("Metadata", {}).get(_MD5, ""))

    def _info(self, name: str, size_bytes: int, answer: Mapping[str, Any]) -> ObjectInfo:
        # With KMS or customer keys the ETag has 32 digits and is no MD5 (S3 API reference, "Object" data type).
        said = answer.get("ServerSideEncryption") or self._encryption.get("ServerSideEncryption", "")
        has_md5 = not said.startswith("aws:kms") and "SSECustomerAlgorithm" not in answer
        found = _PLAIN_MD5.fullmatch(answer["ETag"]) if has_md5 else None
        return ObjectInfo(name, size_bytes, answer["ETag"], found[1] if found else "", "md5" if found else "")


def _chunks(raw: Any, num_bytes: int) -> Iterator[bytes]:
    # read1 returns what has come; read(n) would wait for n bytes, out of reach of the deadline.
    while chunk := raw.read1(checksum.CHUNK_BYTES):
        num_bytes -= len(chunk)
        yield chunk
    if num_bytes:  # boto3 leaves the look to its own `read`
        raise PassingError(f"the body broke off with {num_bytes:,} bytes missing")


@functools.lru_cache(maxsize=8)
def _connected(environment: tuple[tuple[str, str], ...], process: int, policy: Policy) -> Any:
    del process  # part of the key: a forked process must not share sockets
    said = dict(environment)
    is_unsigned = said.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    # A session of its own: making clients from boto3's default one is not safe in several threads (boto3, "Session").
    return boto3.session.Session(region_name=said.get("AWS_REGION") or None).client(
        "s3",
        config=Config(
            connect_timeout=policy.connect_timeout_s,
            read_timeout=6 * policy.progress_timeout_s,  # a service may think for a while about many parts
            max_pool_connections=_POOL_SIZE,
            retries={"mode": "standard", "total_max_attempts": 1},
            # Else a checksum in a trailer, which other services than Amazon's refuse; ours is Content-MD5.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **({"signature_version": UNSIGNED} if is_unsigned else {}),
        ),
    )
