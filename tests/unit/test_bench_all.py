"""The judgement of `scripts/bench/all`: when a row is met, what its figures are, and what the exit code says."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def row(bench: Any, ours: tuple[float, ...], yardstick: tuple[float, ...], limit: Any = None) -> Any:
    return bench("rows").Row("pull", "small objects", "s", ours, yardstick, limit)


@pytest.mark.parametrize(
    ("of", "value", "at_least", "ours", "is_met"),
    [
        ("ratio", 1.5, False, 15.0, True),
        ("ratio", 1.5, False, 15.1, False),
        ("ratio", 2.5, True, 25.0, True),
        ("ratio", 2.5, True, 24.9, False),
        ("excess", 3.0, False, 13.0, True),
        ("excess", 3.0, False, 13.1, False),
        ("value", 64.0, False, 64.0, True),
        ("value", 64.0, False, 64.1, False),
    ],
)
def test_a_row_is_met_at_its_limit_and_not_beyond(
    bench: Any, of: str, value: float, at_least: bool, ours: float, is_met: bool
) -> None:
    one = row(bench, (ours,), (10.0,), bench("rows").Limit(of, value, at_least))
    assert one.is_met is is_met
    assert ("NOT MET" in bench("rows").table([one])) is not is_met


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_round_falls_out(bench: Any) -> None:
    one = row(bench, (1.0, 20.0, 3.0), (2.0, 40.0, 3.0))
    assert one.ratio == 0.5
    assert row(bench, (1.0, 20.0, 3.0), (2.0, 19.0, 3.0), bench("rows").Limit("excess", 0.0)).judged == 0.0


def test_a_row_without_a_limit_is_neither_met_nor_not(bench: Any) -> None:
    one = row(bench, (1.0,), ())
    assert one.is_met is None
    assert one.ratio is None
    assert "met" not in bench("rows").table([one]).splitlines()[-1].lower()


def test_a_limit_on_a_ratio_needs_a_yardstick_in_every_round(bench: Any) -> None:
    with pytest.raises(AssertionError, match="no yardstick"):
        row(bench, (1.0,), (), bench("rows").Limit("ratio", 1.0))
    with pytest.raises(AssertionError, match="without a yardstick"):
        row(bench, (1.0, 2.0), (1.0,))


def test_a_row_comes_back_from_json_and_is_judged_by_its_values(bench: Any) -> None:
    one = row(bench, (15.0, 16.0), (10.0, 10.0), bench("rows").Limit("ratio", 1.5))
    said = json.loads(json.dumps(one.to_json()))
    assert bench("rows").Row.from_json(said) == one
    assert said["is_met"] is False
    said["ours"] = [15.0, 14.0]
    assert bench("rows").Row.from_json(said).is_met is True


def test_the_table_names_a_stage_once_and_gives_medians(bench: Any) -> None:
    rows = [row(bench, (1.0, 3.0, 9.0), (2.0, 2.0, 2.0)), row(bench, (1234.5,), ())]
    first, second = bench("rows").table(rows).splitlines()[2:]
    assert [cell.strip() for cell in first.split("|")[1:6]] == ["pull", "small objects", "3 s", "2 s", "1.5"]
    assert [cell.strip() for cell in second.split("|")[1:6]] == ["", "small objects", "1,234 s", "", ""]


def test_sides_take_turns_and_each_comes_first(bench: Any) -> None:
    order: list[str] = []

    def side(name: str) -> Any:
        return lambda: order.append(name) or len(order)

    found = bench("turns").interleaved({name: side(name) for name in "abc"}, repeats=3)
    assert "".join(order) == "abcbcacab"
    assert found == {"a": (1, 6, 8), "b": (2, 4, 9), "c": (3, 5, 7)}


def test_one_row_that_is_not_met_or_one_room_without_rows_fails_all(bench: Any) -> None:
    limit = bench("rows").Limit("value", 1.0)
    met, missed, told = (row(bench, (value,), (), of) for value, of in ((1.0, limit), (2.0, limit), (9.0, None)))
    code = bench("all").exit_code
    assert code({"pull": [met], "feed": [told]}) == 0
    assert code({"pull": [met], "feed": [told, missed]}) == 1
    assert code({"pull": [met], "feed": []}) == 1


def test_a_room_runs_in_a_process_of_its_own_and_one_that_fails_measures_nothing(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, _ = bench("all").measured("whole", ["only-data-without-weights"], tmp_path)
    assert rows == []
    assert "DATA and WEIGHTS go together" in capsys.readouterr().err


def test_every_room_of_all_is_there(bench: Any) -> None:
    every = bench("all")
    assert every.ROOMS
    assert [name for name in every.ROOMS if not (BENCH / f"{name}.py").is_file()] == []
    assert set(every.NEED_DATA) <= set(every.ROOMS)
