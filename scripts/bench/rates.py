"""Which factor of the backbone's learning rate `balanced` should fine-tune with, chosen on validation images alone.

    scripts/bench/rates DATA ./runs/rates --backbone mobilenet_v2:160:WEIGHTS --backbone mobilenet_025:128:WEIGHTS

One `finetune train` for each backbone, seed and factor, one after the other. Each run's folder is named after the
three below the second argument: the same command again runs only what is missing. The test scores are shown with
`--test` only: look at them when the choice is made.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import choosing
import measuring
from choosing import Result

from job import config as configs
from job.config import Config
from job.console import console
from job.interruption import Stop
from job.model import backbones
from job.platforms import Platform
from job.training import recipe as recipes
from job.workspace import Workspace


class Network(NamedTuple):
    """A backbone at a size with its weights, as `--backbone NAME:PX:WEIGHTS` gives it."""

    name: str
    image_px: int
    weights: str

    @classmethod
    def parse(cls, text: str) -> Network:
        name, image_px, weights = text.split(":", 2)
        return cls(name, int(image_px), weights)


def settings(data: Path, output: Path, network: Network, seed: int, factor: float) -> list[str]:
    """Returns the run's settings: those of `balanced`, its rate for the fine-tuning apart."""
    common = [
        f"data.uri={data}",
        f"output={output}",
        f"model.backbone={network.name}",
        f"model.weights={network.weights}",
        f"data.image_px={network.image_px}",
        "train.preset=balanced",
        f"train.seed={seed}",
    ]
    return [*common, f"train.finetune.learning_rate={factor * rate(configs.load(None, common)):.6g}"]


def rate(config: Config) -> float:
    """Returns the backbone's own rate for the preset's batch."""
    finetune = recipes.PRESETS["balanced"].finetune
    assert finetune is not None
    recipe = recipes.resolve(config, backbones.get(config.model.backbone), num_train=1000, num_classes=10)
    return recipe.phases[-1].learning_rate / finetune.learning_rate


def report(config: Config) -> dict[str, Any] | None:
    """Returns the report of a run that is done, or None; a run with other settings is refused."""
    return Workspace.open(config, Platform("laptop"), console(), Stop()).finished_report()


def result(found: dict[str, Any], network: Network, seed: int, factor: float) -> Result:
    standings = {one["name"]: one for one in found["winner"]["standings"]}
    head, finetune = standings["head"], standings["finetune"]
    return Result(
        network.name,
        seed,
        factor,
        head["log_loss"],
        finetune["log_loss"],
        head["accuracy"],
        finetune["accuracy"],
        found["winner"]["name"] == "finetune",
    )


def table(results: list[Result]) -> str:
    """Returns the validation log losses as a Markdown table, one row a backbone and factor."""
    rows = [
        "| backbone | factor | log loss of each seed | mean | gain over the head | accuracy | ships |",
        "|---|---|---|---|---|---|---|",
    ]
    for (backbone, factor), group in itertools.groupby(results, key=lambda one: (one.backbone, one.factor)):
        ours = list(group)
        rows.append(
            f"| {backbone} | {factor:g} | {', '.join(f'{one.finetune:.4f}' for one in ours)} "
            f"| {statistics.mean(one.finetune for one in ours):.4f} "
            f"| {statistics.mean(one.head - one.finetune for one in ours):+.4f} "
            f"| {statistics.mean(one.finetune_accuracy for one in ours):.4f} "
            f"| {sum(one.wins for one in ours)} of {len(ours)} |"
        )
    return "\n".join(rows)


def verdict(results: list[Result], now: float) -> str:
    """Says which factor is best on all backbones and seeds together, and how each compares with the one in use."""
    best = choosing.best(results)
    factors = sorted({one.factor for one in results})
    lines = [f"Least mean log loss: factor {best:g} ({choosing.mean_log_loss(results, best):.4f})."]
    for factor in factors:
        if factor != now and now in factors:
            gain = choosing.compare(results, factor, now)
            worse = choosing.compare(results, now, factor)
            kind = "clearly better" if gain.is_clear else "clearly worse" if worse.is_clear else "within noise"
            lines.append(f"{factor:g} over {now:g}: {gain.mean:+.4f} ± {gain.error:.4f} nats, {kind}.")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("runs", type=Path, metavar="FOLDER")
    parser.add_argument("--backbone", action="append", required=True, type=Network.parse, metavar="NAME:PX:WEIGHTS")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: %(default)s)")
    parser.add_argument("--factors", default="1,2,4,8", help="comma-separated (default: %(default)s)")
    parser.add_argument("--test", action="store_true", help="show the test accuracy of each run as well")
    given = parser.parse_args()

    seeds = [int(seed) for seed in given.seeds.split(",")]
    factors = [float(factor) for factor in given.factors.split(",")]
    results, tests = [], []
    for network, factor, seed in itertools.product(given.backbone, factors, seeds):
        output = given.runs.absolute() / f"{network.name}-{network.image_px}-factor-{factor:g}-seed-{seed}"
        chosen = settings(given.data.absolute(), output, network, seed, factor)
        config = configs.load(None, chosen)
        if report(config) is None:
            print(f"{output.name} …", flush=True)
            measuring.train(*chosen)
        found = report(config)
        assert found is not None, f"{output} ended without a report"
        results.append(result(found, network, seed, factor))
        tests.append((output.name, found["winner"]["name"], found["test"]["scores"]["accuracy"]))
    finetune = recipes.PRESETS["balanced"].finetune
    assert finetune is not None
    print(table(results), verdict(results, finetune.learning_rate), sep="\n\n")
    if given.test:
        print("", *(f"{name}: {winner}, test accuracy {accuracy:.4f}" for name, winner, accuracy in tests), sep="\n")


if __name__ == "__main__":
    main()
