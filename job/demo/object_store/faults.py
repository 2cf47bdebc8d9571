"""What can go wrong between a bucket and its reader, on request.

A hook is asked about every request before it is carried out and answers with a fault or None:

    def first_download_breaks(method: str, target: str, headers: Mapping[str, str]) -> Fault | None: ...

It sees the target with its query, still percent-encoded, and header names in lower case. It is called
from many threads. Each fault below was seen with real services, or makes a client accept wrong content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from job.demo.object_store.errors import ApiError
from job.demo.object_store.wire import Response

REASONS = {401: "required", 403: "forbidden", 404: "notFound", 408: "timeout", 410: "gone", 429: "rateLimitExceeded"}


class Fault:
    """One thing that goes wrong; this one is nothing."""

    has_effect: ClassVar[bool] = True
    """Whether the request is carried out all the same: an upload is then stored although its reply is spoilt."""

    def receive(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Returns the request's body as it arrives."""
        return blocks

    def spoil(self, response: Response) -> Response:
        """Returns the reply as it leaves. Without effect, `response` is an empty 200."""
        return response


@dataclass(frozen=True)
class Status(Fault):
    """Refused with `code`; the request has no effect."""

    code: int
    retry_after_s: int | None = None
    has_effect: ClassVar[bool] = False

    def spoil(self, response: Response) -> Response:
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        reason = REASONS.get(self.code, "backendError" if self.code >= 500 else "invalid")
        return ApiError(self.code, reason, f"A fault on request: {self.code}.", headers=headers).as_json()


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset after `after_bytes` of the reply's body; at 0 before its first header.

    The request has taken effect: this is the lost reply.
    """

    after_bytes: int = 0

    def spoil(self, response: Response) -> Response:
        return replace(response, cut_after_bytes=self.after_bytes, is_reset=True)


@dataclass(frozen=True)
class Refuse(Fault):
    """The connection is reset and the request has no effect: the service is away."""

    has_effect: ClassVar[bool] = False

    def spoil(self, response: Response) -> Response:
        return replace(response, is_reset=True)


@dataclass(frozen=True)
class BreakUpload(Fault):
    """The connection is reset once `after_bytes` of the request's body have arrived."""

    after_bytes: int

    def receive(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        left = self.after_bytes
        for block in blocks:
            if len(block) >= left:
                yield block[:left]
                raise ConnectionResetError("a fault on request")
            left -= len(block)
            yield block


@dataclass(frozen=True)
class Truncate(Fault):
    """The body ends after `after_bytes`.

    Args:
        is_consistent: The content-length says the short length, so that HTTP sees nothing wrong.
    """

    after_bytes: int
    is_consistent: bool = False

    def spoil(self, response: Response) -> Response:
        if self.is_consistent:
            return replace(response, body=response.body[: self.after_bytes])
        return replace(response, cut_after_bytes=self.after_bytes)


@dataclass(frozen=True)
class Corrupt(Fault):
    """One byte of the reply's body is wrong; negative positions count from the end. An empty body stays."""

    at_byte: int = -1

    def spoil(self, response: Response) -> Response:
        if not -len(response.body) <= self.at_byte < len(response.body):
            return response
        body = bytearray(response.body)
        body[self.at_byte] ^= 0xFF
        return replace(response, body=body)


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing comes for `seconds`: before the first header, or after `after_bytes` of the body."""

    seconds: float
    after_bytes: int | None = None

    def spoil(self, response: Response) -> Response:
        return replace(response, stall_s=self.seconds, stall_after_bytes=self.after_bytes)


@dataclass(frozen=True)
class Drip(Fault):
    """The body comes steadily, and so slowly that a limit on the silence between two bytes never ends it."""

    bytes_per_s: float

    def spoil(self, response: Response) -> Response:
        return replace(response, drip_bytes_per_s=self.bytes_per_s)


@dataclass(frozen=True)
class NoHash(Fault):
    """The reply lacks x-goog-hash, as replies do that passed through a cache or a proxy."""

    def spoil(self, response: Response) -> Response:
        headers = {key: value for key, value in response.headers.items() if key != "x-goog-hash"}
        return replace(response, headers=headers)


FaultHook = Callable[[str, str, Mapping[str, str]], Fault | None]
"""(method, target, headers) → what goes wrong with this request, or None."""
