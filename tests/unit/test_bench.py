"""The judgement of `scripts/bench`: what a claim needs to hold, and when one learning rate is better than another."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from job import config as configs
from job.model import backbones
from job.training import recipe as recipes

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def measured(bench: Any, name: str, seconds: float, accuracy: float, seed: int = 0, repeat: int = 0) -> Any:
    return bench("measuring").Measurement(name, seed, repeat, seconds, 2 * seconds, accuracy, (0.9, 1.0), 240)


@pytest.mark.parametrize(
    ("name", "seconds", "accuracy", "is_met"),
    [
        ("balanced", 100.0, 0.95, True),
        ("balanced", 100.1, 0.99, False),
        ("balanced", 10.0, 0.949, False),
        ("fast", 25.0, 0.95, True),
        ("fast", 25.1, 0.99, False),
    ],
)
def test_a_claim_needs_its_accuracy_within_its_share_of_the_time(
    bench: Any, name: str, seconds: float, accuracy: float, is_met: bool
) -> None:
    runs = [measured(bench, "textbook", 100.0, 0.93), measured(bench, name, seconds, accuracy)]
    (verdict,) = bench("claims").judge(runs)
    assert verdict.is_met is is_met
    assert ("NOT MET" in str(verdict)) is not is_met


def test_a_claim_is_judged_by_the_median_of_its_repeats_on_each_seed_alone(bench: Any) -> None:
    runs = [
        *(measured(bench, "textbook", seconds, 0.93, repeat=i) for i, seconds in enumerate((90, 100, 400))),
        *(measured(bench, "balanced", seconds, 0.96, repeat=i) for i, seconds in enumerate((80, 95, 300))),
        measured(bench, "textbook", 100, 0.93, seed=1),
        measured(bench, "balanced", 150, 0.96, seed=1),
    ]
    first, second = bench("claims").judge(runs)
    assert (first.seed, first.share, first.is_met) == (0, 0.95, True)
    assert (second.seed, second.share, second.is_met) == (1, 1.5, False)


def test_the_table_begins_with_the_textbook_and_ends_each_side_with_its_median(bench: Any) -> None:
    runs = [measured(bench, "fast", 20, 0.95), measured(bench, "textbook", 100, 0.9, 0)]
    runs.append(measured(bench, "textbook", 140, 0.92, 1))
    rows = bench("flowers").table(runs).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["textbook", "textbook", "**textbook**", "fast", "**fast**"]
    assert rows[2] == "| **textbook** | median | 120.0 | 240.0 | 0.9100 | |"


def results(bench: Any, **losses: tuple[float, ...]) -> list[Any]:
    result = bench("choosing").Result
    return [
        result("mobilenet_v2", seed, float(factor[1:]), 0.3, loss, 0.9, 0.9, True)
        for factor, values in losses.items()
        for seed, loss in enumerate(values)
    ]


def test_a_factor_is_clearly_better_only_where_it_is_so_seed_by_seed(bench: Any) -> None:
    choosing = bench("choosing")
    found = results(bench, x1=(0.20, 0.60, 0.40), x2=(0.18, 0.58, 0.37), x4=(0.30, 0.40, 0.35))
    assert choosing.best(found) == 4.0
    steady = choosing.compare(found, 2.0, 1.0)
    assert steady.mean == pytest.approx(0.07 / 3)
    assert steady.is_clear
    assert not choosing.compare(found, 4.0, 1.0).is_clear
    assert not choosing.compare(found, 1.0, 2.0).is_clear


def test_the_verdict_names_the_best_and_what_is_noise(bench: Any) -> None:
    found = results(bench, x1=(0.20, 0.60, 0.40), x2=(0.18, 0.58, 0.37), x4=(0.30, 0.45, 0.36))
    first, *rest = bench("rates").verdict(found, now=2.0).splitlines()
    assert first == "Least mean log loss: factor 4 (0.3700)."
    assert [line.rsplit(", ", 1)[1] for line in rest] == ["clearly worse.", "within noise."]


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_the_presets_own_factor_gives_the_presets_own_rate(bench: Any, name: str) -> None:
    rates = bench("rates")
    network = rates.Network.parse(f"{name}:64:gs://bucket/weights.h5")
    assert network.weights == "gs://bucket/weights.h5"
    factor = recipes.PRESETS["balanced"].finetune.learning_rate  # type: ignore[union-attr]

    def rate(settings: list[str]) -> float:
        found = recipes.resolve(configs.load(None, settings), backbones.get(name), num_train=500, num_classes=3)
        return found.phases[-1].learning_rate

    given = rates.settings(Path("/data"), Path("/run"), network, 7, factor)
    assert rate(given) == pytest.approx(rate(given[:-1]), rel=1e-5)
    doubled = rates.settings(Path("/data"), Path("/run"), network, 7, 2 * factor)
    assert rate(doubled) == pytest.approx(2 * rate(given), rel=1e-5)
