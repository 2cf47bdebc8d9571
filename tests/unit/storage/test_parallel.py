"""Many objects at once: who is told what, what fails, what is begun beside what, and what a stop leaves."""

from __future__ import annotations

import threading

import pytest

from job.errors import AccessError, InputMissingError, StoppedError, TemporaryError
from job.storage import growth
from job.storage.parallel import for_each, in_turns
from job.storage.store import Steps


def _fail(number: int) -> int:
    if number % 10 == 3:
        raise TemporaryError(f"number {number} is busy", next_step="Wait.")
    return number


def test_threads_that_all_wait_get_more_beside_them():
    together = threading.Barrier(16, timeout=120)
    for_each(range(16), lambda _: together.wait(), doing="waiting", name=str)
    assert not together.broken


def test_the_caller_is_told_the_last_count_and_may_stop_while_nothing_is_finished():
    seen, begun, go_on = [], [], threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        go_on.wait(120)

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        go_on.set()
        raise StoppedError("stopped")

    # So many that some are left, however long this thread waits for the processor between its word and the stop.
    num = 1_000_000
    with pytest.raises(StoppedError):
        for_each(range(num), work, doing="waiting", name=str, progress=stop)
    assert seen == [(0, num)]
    assert len(begun) < num, "what was begun is finished, and nothing else is begun"


def test_what_waits_for_another_try_holds_up_nobody_and_is_ended_by_a_stop():
    ended = []

    def work(number: int) -> Steps[int]:
        try:
            yield 0.0
            if number < 50:
                yield 600.0
        finally:
            ended.append(number)
        return number

    def stop(done: int, total: int) -> None:
        if done == 450:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        in_turns(range(500), work, is_short=lambda _: True, doing="waiting", name=str, progress=stop)
    assert sorted(ended) == list(range(500))


@pytest.mark.parametrize("is_short", [True, False])
def test_only_short_work_is_begun_before_other_work_of_its_thread_is_done(is_short: bool):
    begun: dict[int, int] = {}
    seen = []

    def work(number: int) -> Steps[None]:
        thread = threading.get_ident()
        begun[thread] = begun.get(thread, 0) + 1
        seen.append(begun[thread])
        yield 0.0
        begun[thread] -= 1

    in_turns(range(200), work, is_short=lambda _: is_short, doing="waiting", name=str)
    assert max(seen) == (16 if is_short else 1)


def test_work_that_is_put_off_is_finished_by_whoever_is_there():
    def work(number: int) -> Steps[int]:
        for _ in range(3):
            yield 1e-9
        return number

    assert sorted(in_turns(range(100), work, is_short=lambda _: True, doing="waiting", name=str)) == list(range(100))


def test_all_failures_are_counted_and_the_first_named():
    with pytest.raises(TemporaryError, match=r"counting: 10 of 100 failed \(90 are done\): .*; and 5 more") as caught:
        for_each(range(100), _fail, doing="counting", name=str)
    assert caught.value.message.count("is busy") == 5
    assert caught.value.next_step == "Wait."


def test_failures_of_two_kinds_are_temporary():
    def work(number: int) -> None:
        raise InputMissingError("gone") if number else TemporaryError("busy")

    with pytest.raises(TemporaryError, match="2 of 2"):
        for_each([0, 1], work, doing="counting", name=str)


def test_after_many_failures_the_rest_is_not_tried():
    tried = []

    def work(number: int) -> None:
        tried.append(number)
        raise TemporaryError("down")

    with pytest.raises(TemporaryError, match=r"\d+ of 10000 failed .* were not tried"):
        for_each(range(10_000), work, doing="counting", name=str)
    # What the other threads had in hand at the fiftieth fails as well.
    assert 50 <= len(tried) < 50 + growth.MOST


def test_without_permission_the_rest_is_not_tried():
    tried = []

    def work(number: int) -> None:
        tried.append(number)
        raise AccessError("no permission")

    with pytest.raises(AccessError):
        for_each(range(10_000), work, doing="counting", name=str)
    assert len(tried) < 1000
