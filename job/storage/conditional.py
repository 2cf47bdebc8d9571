"""What s3:// and az:// have in common: objects whose ETag is the condition of every write.

A store of one service says how its requests are made; here is what they are for, in which order, and what a failed one
means. Every byte is checked: uploads by the service, against the MD5 sent along; downloads here, against the MD5 that
the service lists or that our upload wrote beside the object. Writes of the same content get the same ETag on S3, so a
version there is a content, not a moment.
"""

from __future__ import annotations

import contextlib
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from job.errors import InputMissingError, JobError, TemporaryError
from job.storage import checksum, disk, parts
from job.storage.checksum import Digest
from job.storage.retry import PassingError, Policy, Retrier
from job.storage.store import ABSENT, ObjectInfo, VersionConflictError, conflict


@dataclass(frozen=True, slots=True)
class Found:
    """An object as the service describes it: as its listing would, and the MD5 of the content, hex, where it is known.

    `md5` is "" where it is not: it is the listed one, or what our upload wrote beside the object.
    """

    info: ObjectInfo
    md5: str


@dataclass(frozen=True, slots=True)
class Body:
    """An object's bytes on their way, in pieces as they come."""

    found: Found
    chunks: Iterator[bytes]


class UploadLostError(TemporaryError):
    """What was sent of an object so far is gone; another try begins anew."""


@dataclass(slots=True)
class _Received:
    """What has come of an object's body; a broken one goes on where it was."""

    size_bytes: int = 0
    digest: Digest = field(default_factory=lambda: checksum.start("md5"))
    found: Found | None = None


class ConditionalStore(ABC):
    """Objects below a prefix of one bucket or container.

    Args:
        uri: As the user wrote it.
        prefix: Without slashes at its ends, "" for the whole bucket.
        translate: What the service's library raises, in the job's own errors.
        policy: Patience.
    """

    most_parts: int
    """Of one object."""

    def __init__(self, uri: str, prefix: str, translate: Callable[[Exception, str], Exception], policy: Policy) -> None:
        self._uri = uri.rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._translate = translate
        self._policy = policy
        self._retry = Retrier(translate, policy)

    @abstractmethod
    def _page(self, prefix: str, token: str, attempt: int) -> tuple[Sequence[ObjectInfo], str]:
        """Returns one page of the objects whose keys start with `prefix`, and the next page's token, "" for none."""

    @abstractmethod
    def _find(self, name: str) -> Found | None:
        """Describes an object; None where there is none."""

    @abstractmethod
    def _open(self, name: str, version: str, first: int) -> contextlib.AbstractContextManager[Body]:
        """Asks for an object's bytes from `first` on, only of that version unless it is ""."""

    @abstractmethod
    def _put(self, name: str, data: bytes, md5: str, seen: str) -> ObjectInfo:
        """Writes an object in one request, which the service refuses where not `seen` is there, or not `data` came."""

    @abstractmethod
    def _sender(self, name: str, whole: parts.Cut) -> Callable[[str], ObjectInfo]:
        """Returns what sends a large object, in parts, where `seen` is there; called again it goes on."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Removes an object."""

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def num_retries(self) -> int:
        return self._retry.num_retries

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        infos: dict[str, ObjectInfo] = {}
        token = ""
        while True:
            page = functools.partial(self._page, self._prefix + prefix, token)
            found, token = self._retry.run("listing", self._full(prefix), page)
            infos |= {info.name: info for info in found if info.name}
            if not token:
                break
        # Azure's hierarchical namespaces list folders as empty objects; left in, they would block the folder.
        folders = {name[:end] for name in infos for end, letter in enumerate(name) if letter == "/"}
        yield from (infos[name] for name in sorted(infos) if infos[name].size_bytes or name not in folders)

    def stat(self, name: str) -> ObjectInfo | None:
        found = self._retry.run("describing", self._full(name), lambda _: self._look(name))
        return found.info if found else None

    def read(self, name: str) -> bytes:
        def work(_: int) -> bytes:
            with self._open(name, "", 0) as body:
                data = b"".join(body.chunks)
            _demand(len(data), checksum.of_bytes(data, "md5"), body.found.info, body.found)
            return data

        return self._retry.run("reading", self._full(name), work)

    def write(self, name: str, data: bytes, *, if_version: str | None = None) -> ObjectInfo:
        md5 = checksum.of_bytes(data, "md5")
        seen = if_version

        def work(attempt: int) -> ObjectInfo:
            nonlocal seen
            if seen is None:
                seen = _version(self._look(name))
            try:
                with self._border(name, seen):
                    return self._put(name, data, md5, seen)
            except VersionConflictError as error:
                # After a lost answer the condition fails because our own write was stored.
                there = self._look(name) if attempt > 1 or if_version is None else None
                if there and _holds(there, len(data), md5):
                    return there.info
                raise conflict(self._full(name), seen) from error

        return self._retry.run("writing", self._full(name), work)

    def download(self, info: ObjectInfo, to: Path) -> None:
        with disk.replacing(to) as temp, disk.filling(to, info.size_bytes):
            got = _Received()

            def work(_: int) -> None:
                nonlocal got
                if got.found is None or got.size_bytes < info.size_bytes:
                    self._receive(info, got, temp, to)
                assert got.found
                try:
                    _demand(got.size_bytes, got.digest.digest().hex(), info, got.found)
                except PassingError:
                    got = _Received()  # a wrong body comes again from its beginning, one that broke goes on
                    raise

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
            whole = parts.cut(stream, self.most_parts)
            send = self._sender(name, whole) if len(whole.parts) > 1 else functools.partial(self._send, name, whole)
            full, seen = self._full(name), ""

            def work(_: int) -> ObjectInfo:
                nonlocal seen
                there = self._look(name)
                if there and _holds(there, whole.size_bytes, whole.md5):
                    return there.info
                # What the first try saw is all that may be replaced: a later try must not take what somebody else
                # wrote meanwhile for something to write over.
                seen = seen or _version(there)
                if _version(there) != seen:
                    raise conflict(full, seen)
                try:
                    with self._border(name, seen):
                        return send(seen)
                except (VersionConflictError, UploadLostError) as error:
                    # Ours, where an answer was lost; the next try sees whose it is.
                    raise PassingError(error.message) from error

            return self._retry.run("uploading", full, work, size_bytes=whole.size_bytes)

    def delete(self, name: str) -> None:
        with contextlib.suppress(InputMissingError):  # S3 says nothing where nothing is, Azure does
            self._retry.run("deleting", self._full(name), lambda _: self._remove(name))

    def _send(self, name: str, whole: parts.Cut, seen: str) -> ObjectInfo:
        return self._put(name, whole.read(0, whole.size_bytes, whole.md5), whole.md5, seen)

    def _look(self, name: str) -> Found | None:
        return self._find(name) if self._key(name) else None

    def _receive(self, info: ObjectInfo, got: _Received, temp: Path, to: Path) -> None:
        """Appends what is missing of an object to a file, until it ends, breaks, or takes too long."""
        limit_s, started_s = self._policy.try_s(info.size_bytes), time.monotonic()
        with disk.border(str(to), to):
            file = temp.open("ab" if got.size_bytes else "wb")
        with file, self._open(info.name, info.version, got.size_bytes) as body:
            got.found = body.found
            for chunk in body.chunks:
                got.digest.update(chunk)
                got.size_bytes += file.write(chunk)
                if time.monotonic() - started_s > limit_s:
                    raise PassingError(f"only {got.size_bytes:,} bytes came in {limit_s:.0f} s")

    @contextlib.contextmanager
    def _border(self, name: str, seen: str) -> Iterator[None]:
        """Turns what a write raises into the job's errors, a condition on an object that is gone into a conflict."""
        try:
            yield
        except (JobError, PassingError):
            raise
        except Exception as error:
            failure = self._translate(error, self._full(name))
            if isinstance(failure, InputMissingError) and seen != ABSENT:
                failure = conflict(self._full(name), seen)
            raise failure from error

    def _name(self, key: str) -> str:
        return "" if key == self._prefix.rstrip("/") else key.removeprefix(self._prefix)

    def _key(self, name: str) -> str:
        return self._prefix + name if name else self._prefix.rstrip("/")

    def _full(self, name: str) -> str:
        return f"{self._uri}/{name}" if name else self._uri


def _holds(found: Found, size_bytes: int, md5: str) -> bool:
    return (found.info.size_bytes, found.md5) == (size_bytes, md5)


def _version(found: Found | None) -> str:
    return found.info.version if found else ABSENT


def _demand(size_bytes: int, md5: str, info: ObjectInfo, found: Found) -> None:
    """Refuses a body that is not whole and right."""
    if size_bytes != info.size_bytes:
        raise PassingError(f"{size_bytes:,} of {info.size_bytes:,} bytes came")
    # A listing does not say that an ETag is no MD5 because of KMS keys; the object itself does.
    for expected in (found.md5, info.checksum if found.info.checksum else ""):
        if expected and md5 != expected:
            raise PassingError(f"the content came damaged: MD5 {md5}, expected {expected}")
