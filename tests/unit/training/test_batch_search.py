"""The search for the largest batch asks for each size once and ends at the limit, to an eighth."""

from __future__ import annotations

import pytest

from job.training.batch_search import largest


@pytest.mark.parametrize("first", [8, 32, 64])
@pytest.mark.parametrize("unit", [1, 4, 8])
@pytest.mark.parametrize("most", [64, 400, 4096])
@pytest.mark.parametrize("limit", [8, 9, 31, 32, 100, 257, 1000, 5000])
def test_the_largest_that_fits_is_found_to_an_eighth(first: int, unit: int, most: int, limit: int) -> None:
    asked: list[int] = []

    def fits(batch: int) -> bool:
        asked.append(batch)
        return batch <= limit

    found = largest(fits, first=first, unit=unit, most=most)
    assert found is not None
    assert found in asked
    assert found <= min(limit, most)
    assert found == most or min(limit, most) - found <= max(unit, found / 8)
    assert len(asked) == len(set(asked)) <= 13
    assert all(batch % unit == 0 for batch in asked)


def test_where_not_even_one_unit_fits_there_is_none() -> None:
    asked: list[int] = []
    assert largest(lambda batch: bool(asked.append(batch)), first=32, unit=4, most=512) is None
    assert asked == [32, 16, 8, 4]
