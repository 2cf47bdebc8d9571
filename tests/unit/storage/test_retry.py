"""How often, how long, and what is said in the end."""

from __future__ import annotations

import datetime
import email.utils

import pytest

from job.errors import AccessError, ConfigError, InputMissingError, JobError, TemporaryError
from job.storage.retry import PassingError, Policy, Retrier, from_status
from job.storage.store import VersionConflictError

NO_WAIT = Policy(first_wait_s=0.0, max_wait_s=0.0)


def as_missing(error: Exception, uri: str) -> Exception:
    return InputMissingError(f"{uri}: {error}")


def test_waits_double_up_to_the_longest_and_are_jittered():
    policy = Policy(first_wait_s=1.0, max_wait_s=5.0)
    for attempt, longest_s in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)]:
        waits = [policy.wait_s(attempt, 0.0) for _ in range(50)]
        assert longest_s / 2 <= min(waits) < max(waits) <= longest_s


def test_retry_after_is_a_floor_and_has_a_ceiling():
    assert Policy().wait_s(1, 7.0) == 7.0
    assert Policy().wait_s(1, 3600.0) == 60.0


def test_a_passing_failure_is_tried_until_it_passes():
    retrier = Retrier(as_missing, NO_WAIT)

    def work(attempt: int) -> int:
        if attempt < 5:
            raise PassingError("busy")
        return attempt

    assert retrier.run("reading", "gs://b/a", work) == 5
    assert retrier.num_retries == 4


def test_the_last_failure_names_uri_tries_time_and_reason():
    def work(attempt: int) -> None:
        raise PassingError(f"busy {attempt}")

    with pytest.raises(
        TemporaryError, match=r"reading gs://b/a failed in 8 tries over \d+\.\d s; the last one: busy 8"
    ):
        Retrier(as_missing, NO_WAIT).run("reading", "gs://b/a", work)


def test_no_try_starts_that_would_end_after_the_deadline():
    seen = []

    def work(attempt: int) -> None:
        seen.append(attempt)
        raise PassingError("busy", retry_after_s=30.0)

    with pytest.raises(TemporaryError, match="1 tries"):
        Retrier(as_missing, Policy(overall_s=5.0)).run("reading", "gs://b/a", work)
    assert seen == [1]


def test_a_large_object_gets_more_time():
    assert Policy(overall_s=10.0).deadline_s(256 * 1024 * 100) == 110.0


def test_a_foreign_error_is_translated_once_and_kept_as_cause():
    cause = KeyError("x")

    def work(attempt: int) -> None:
        raise cause

    retrier = Retrier(as_missing, NO_WAIT)
    with pytest.raises(InputMissingError, match="gs://b/a") as caught:
        retrier.run("reading", "gs://b/a", work)
    assert caught.value.__cause__ is cause
    assert retrier.num_retries == 0


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "", AccessError),
        (403, "", AccessError),
        (404, "", InputMissingError),
        (408, "", PassingError),
        (412, "", VersionConflictError),
        (429, "", PassingError),
        (500, "", PassingError),
        (503, "", PassingError),
        (400, "Provided CRC32C does not match", PassingError),
        (400, "Invalid bucket name", ConfigError),
        (418, "teapot", JobError),
    ],
)
def test_a_status_has_one_meaning(status: int, reason: str, kind: type[Exception]):
    error = from_status(status, "gs://b/a", reason, login="Log in.")
    assert type(error) is kind
    assert f"HTTP {status}" in str(error)


def test_retry_after_is_read_as_seconds_and_as_a_date():
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=40)
    for text, least, most in [("17", 17, 17), (email.utils.format_datetime(soon, usegmt=True), 30, 40), ("x", 0, 0)]:
        error = from_status(503, "gs://b/a", "", retry_after=text, login="")
        assert isinstance(error, PassingError)
        assert least <= error.retry_after_s <= most
