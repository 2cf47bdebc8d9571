"""How often, how long, and what is said in the end."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Generator

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


def test_after_a_broken_connection_three_tries_come_nearly_at_once_and_the_others_do_not():
    policy = Policy(first_wait_s=1.0)
    assert max(policy.wait_s(1, 0.0, is_broken=True) for _ in range(50)) <= 0.1
    assert max(policy.wait_s(2, 0.0, is_broken=True) for _ in range(50)) <= 0.2
    assert max(policy.wait_s(3, 0.0, is_broken=True) for _ in range(50)) <= 0.4
    assert min(policy.wait_s(4, 0.0, is_broken=True) for _ in range(50)) >= 4.0


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


def test_work_by_steps_says_how_long_to_leave_it_and_returns_what_it_made():
    def work(attempt: int) -> Generator[None, None, int]:
        yield
        if attempt == 1:
            raise PassingError("busy", retry_after_s=7.0)
        return attempt

    retrier = Retrier(as_missing, NO_WAIT)
    steps = retrier.by_steps("reading", "gs://b/a", work)
    assert [next(steps) for _ in range(3)] == [0.0, 7.0, 0.0]
    assert retrier.num_retries == 1
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == 2


def test_time_in_which_work_was_left_does_not_count_against_its_deadline(monkeypatch: pytest.MonkeyPatch):
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])

    def work(attempt: int) -> Generator[None, None, None]:
        yield
        now_s[0] += 4.0
        raise PassingError("busy")

    steps = Retrier(as_missing, Policy(first_wait_s=0.0, overall_s=10.0)).by_steps("reading", "gs://b/a", work)
    with pytest.raises(TemporaryError, match=r"failed in 3 tries over 12\.0 s"):
        for _ in steps:
            now_s[0] += 60.0


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
