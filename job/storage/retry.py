"""Trying again: which failures may pass, how long to wait, and what a final failure says.

Each remote store hands in `translate`, its one place where foreign exceptions become the job's own.
Measured reasons for a loop of our own: the clients do not retry corrupt bodies, ignore Retry-After
and have no limit for an operation as a whole.
"""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from job.errors import AccessError, ConfigError, InputMissingError, JobError, StoreAwayError
from job.storage.store import Steps, VersionConflictError

T = TypeVar("T")

_LONGEST_RETRY_AFTER_S = 60.0
_SLOWEST_BYTES_PER_S = 256 * 1024
_AT_ONCE = 0.1
_TIMES_AT_ONCE = 3
"""Share of the first waits after a broken connection: nobody asked for patience, as 429 and 503 do."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a store is.

    Attributes:
        tries: Of one operation in all, at least 1.
        first_wait_s: Before the second try; doubles each time. Jittered to 50..100 %.
        max_wait_s: Longest wait the doubling reaches.
        connect_timeout_s: To open a connection.
        progress_timeout_s: Longest silence between two bytes.
        overall_s: Longest an operation lasts, tries and waits included; objects get time on top at 256 KiB/s.
    """

    tries: int = 8
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0
    connect_timeout_s: float = 5.0
    progress_timeout_s: float = 10.0
    overall_s: float = 120.0

    def deadline_s(self, size_bytes: int = 0) -> float:
        """Returns the longest an operation on so many bytes may last, seconds."""
        return self.overall_s + size_bytes / _SLOWEST_BYTES_PER_S

    def try_s(self, size_bytes: int = 0) -> float:
        """Returns the longest one try at a body may last, seconds, however steadily it drips.

        Half of the deadline, so that a slow connection leaves time for another one; a large object on a slow line
        gets what the slowest allowed rate takes.
        """
        return max(self.deadline_s(size_bytes) / 2, size_bytes / _SLOWEST_BYTES_PER_S)

    def wait_s(self, attempt: int, retry_after_s: float, *, is_broken: bool = False) -> float:
        """Returns the pause after the failed try number `attempt` (from 1); the server's wish is a floor.

        Args:
            is_broken: The answer was lost or damaged on its way; the first three waits are short then.
        """
        wait_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if is_broken and attempt <= _TIMES_AT_ONCE:
            wait_s *= _AT_ONCE
        return max(wait_s, min(retry_after_s, _LONGEST_RETRY_AFTER_S))


class PassingError(Exception):
    """A failure worth another try; stays inside this package.

    Attributes:
        retry_after_s: What the server asked for, 0 where it asked for nothing.
        is_broken: The answer was lost or damaged on its way, rather than the server busy.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 0.0, is_broken: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s, self.is_broken = retry_after_s, is_broken


class Retrier:
    """Runs operations until they succeed, fail for good, or run out of tries. Thread-safe."""

    def __init__(self, translate: Callable[[Exception, str], Exception], policy: Policy) -> None:
        self.policy = policy
        self._translate = translate
        self._lock = threading.Lock()
        self._num_retries = 0

    @property
    def num_retries(self) -> int:
        """Tries beyond the first, of all operations so far."""
        return self._num_retries

    def run(self, doing: str, uri: str, work: Callable[[int], T], *, size_bytes: int = 0) -> T:
        """Returns what `work(attempt)` returns; attempts count from 1.

        Args:
            doing: A verb form for messages: "downloading".
            uri: The full URI of what is worked on, for messages.
            work: One try. Raises anything; the job's own errors and PassingError keep their meaning.
            size_bytes: Of the object, for the deadline.

        Raises:
            StoreAwayError: After the last try, with their number, the time and the last reason.
            JobError: Whatever `translate` makes of a failure that does not pass.
        """

        def steps(attempt: int) -> Generator[None, None, T]:
            yield from ()
            return work(attempt)

        return waited(self.by_steps(doing, uri, steps, size_bytes=size_bytes))

    def by_steps(
        self, doing: str, uri: str, work: Callable[[int], Generator[None, None, T]], *, size_bytes: int = 0
    ) -> Steps[T]:
        """As `run`, for work that yields where it may be left. That time does not count against the deadline.

        Yields:
            0 where `work` yields, else the pause before the next try, seconds.
        """
        attempt, elapsed_s = 0, 0.0
        while True:
            attempt += 1
            since_s = time.monotonic()
            try:
                steps = work(attempt)
                while True:
                    try:
                        next(steps)
                    except StopIteration as end:
                        made: T = end.value
                        return made
                    elapsed_s += time.monotonic() - since_s
                    yield 0.0
                    since_s = time.monotonic()
            except JobError:
                raise
            except Exception as error:
                failure = error if isinstance(error, PassingError) else self._translate(error, uri)
                if not isinstance(failure, PassingError):
                    raise failure from error
                elapsed_s += time.monotonic() - since_s
                wait_s = self.policy.wait_s(attempt, failure.retry_after_s, is_broken=failure.is_broken)
                if attempt >= self.policy.tries or elapsed_s + wait_s > self.policy.deadline_s(size_bytes):
                    raise StoreAwayError(
                        f"{doing} {uri} failed in {attempt} tries over {elapsed_s:.1f} s; the last one: {failure}",
                        next_step="Check the network and the service's status, then start the job again: "
                        "it continues where it stopped.",
                    ) from error
            with self._lock:
                self._num_retries += 1
            elapsed_s += wait_s
            yield wait_s


def waited(steps: Generator[float | None, None, T]) -> T:
    """Returns what `steps` make, in this thread, which sleeps where they ask for it."""
    while True:
        try:
            wait_s = next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        if wait_s:
            time.sleep(wait_s)


def from_status(status: int, uri: str, reason: str, *, retry_after: str = "", login: str) -> Exception:
    """Returns the error that an HTTP status stands for.

    Args:
        status: 300 or above.
        uri: Full URI the request was about.
        reason: What the server said; shortened.
        retry_after: The header of that name, seconds or an HTTP date.
        login: What to do about missing or insufficient credentials.

    Source: https://cloud.google.com/storage/docs/retry-strategy for what is worth another try.
    """
    reason = " ".join(reason.split())[:300]
    said = f"HTTP {status}{': ' + reason if reason else ''}"
    if status in (408, 429) or status >= 500:
        return PassingError(said, retry_after_s=_seconds(retry_after))
    if status == 400 and re.search(r"crc32c|md5|checksum|digest", reason, re.IGNORECASE):
        return PassingError(f"the server received damaged data ({said})")
    if status in (401, 403):
        return AccessError(f"no permission for {uri} ({said})", next_step=login)
    if status == 404:
        return InputMissingError(
            f"{uri} does not exist ({said})", next_step="Check the spelling of the bucket and the path, or create it."
        )
    if status in (409, 412):
        return VersionConflictError(
            f"{uri} was written by somebody else in the meantime ({said}); nothing was changed",
            next_step="Make sure only one job writes there, then start the job again.",
        )
    if status == 400:
        return ConfigError(f"the storage service refuses {uri} ({said})", next_step="Check the URI.")
    return JobError(f"the storage service answered {uri} with {said}")


def _seconds(retry_after: str) -> float:
    if not retry_after:
        return 0.0
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
