"""How many threads a transfer takes, in worlds where it is known what they wait for. Time is counted, not passed."""

from __future__ import annotations

from collections.abc import Callable

from job.storage.growth import FEWEST, MOST, Growth


def numbers(rate: Callable[[int], float], *, cpu_s: float = 1e-4, for_s: float) -> list[int]:
    """Returns the number of threads after each tenth of a second.

    Args:
        rate: Objects a second that so many threads finish.
        cpu_s: Processor time of one object.
    """
    growth, num_done, found = Growth(0.0), 0.0, []
    for tenth in range(1, round(for_s * 10) + 1):
        num_done += rate(growth.num) / 10
        found.append(growth.look(tenth / 10, int(num_done), num_done * cpu_s))
    return found


def test_where_each_waits_for_its_own_answer_all_threads_are_there_at_once():
    found = numbers(lambda num: num / 0.03, for_s=0.5)
    assert found[0] == 8 * FEWEST
    assert found[-1] == MOST


def test_threads_that_keep_the_interpreter_busy_stay_few():
    assert set(numbers(lambda num: 3000.0, cpu_s=1 / 3000, for_s=10.0)) == {FEWEST}


def test_threads_that_do_not_help_are_given_up_and_tried_again_later():
    found = numbers(lambda num: 3000.0, for_s=12.0)
    assert max(found) == 8 * FEWEST
    rises = sum(after > before for before, after in zip([FEWEST, *found], found, strict=False))
    assert rises == 3, "every five seconds, because what held them up may be over"
    assert found[-1] == FEWEST


def test_growth_ends_where_the_server_can_do_no_more():
    found = numbers(lambda num: min(num, 10) / 0.03, for_s=4.0)
    assert found[-1] == 8
    assert max(found) == 64


def test_large_objects_of_which_none_is_finished_yet_get_more_threads():
    assert numbers(lambda num: 0.0, for_s=5.0)[-1] == MOST


def test_a_server_that_becomes_faster_gets_more_threads():
    growth = Growth(0.0)
    num_done = 0
    for tenth in range(1, 200):
        num_done += int(100 if tenth < 100 else growth.num / 0.03 / 10)
        growth.look(tenth / 10, num_done, 0.0)
    assert growth.num == MOST


def test_a_step_is_not_judged_by_the_time_in_which_its_threads_connect():
    growth = Growth(0.0)
    assert growth.look(0.1, 100, 0.0) == 8 * FEWEST
    assert growth.look(0.4, 150, 0.0) == 8 * FEWEST, "half of the rate before"
    assert growth.look(0.5, 350, 0.0) == MOST, "twice that rate"
