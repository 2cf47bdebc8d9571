"""Which steps are made in one call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from job.training.spans import MAX_STEPS, spans, steps_at_once

numbers = st.integers(1, 30)


@given(last=st.integers(0, 100), at_once=numbers, ends=st.lists(numbers, max_size=3), data=st.data())
def test_every_step_is_made_once_and_no_look_is_passed(
    last: int, at_once: int, ends: list[int], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, last))
    found = list(spans(first, last, at_once=at_once, ends=ends))
    assert [step for span in found for step in span] == list(range(first, last))
    for span in found:
        assert 1 <= len(span) <= at_once
        assert not [step for step in span[1:] for end in ends if step % end == 0]


@given(last=st.integers(1, 100), at_once=numbers, ends=st.lists(numbers, max_size=3))
def test_a_run_that_goes_on_ends_its_calls_where_an_undisturbed_one_does(
    last: int, at_once: int, ends: list[int]
) -> None:
    whole = list(spans(0, last, at_once=at_once, ends=ends))
    for span in whole:
        assert list(spans(span.start, last, at_once=at_once, ends=ends)) == whole[whole.index(span) :]


def test_small_inputs_share_a_call_and_large_ones_do_not() -> None:
    assert steps_at_once(32 * 1280 * 4) == MAX_STEPS
    assert steps_at_once(4 << 20) == 2
    assert steps_at_once(64 * 224 * 224 * 3) == 1
    assert steps_at_once(0) == MAX_STEPS
