"""The presets of the job against transfer learning as the guides teach it: seconds and test accuracy.

    scripts/bench/flowers DATA WEIGHTS --seeds 0,1,2 --json flowers.json

DATA is a folder with train/CLASS and test/CLASS, WEIGHTS the file of MobileNetV2 without its top. Each training is a
process of its own with nothing cached, measured from its start to its exit. They take turns, first the one then the
other, so that a busy machine is busy for all of them: compare seconds within one run of this program only. All are
scored on every image of the test folder; "in its report" is what the job itself says, which leaves out test images that
are, or nearly are, training images. Ends with exit code 1 where a claim (`claims.py`) is not kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import claims
import measuring
from measuring import Measurement, Task


def measure(task: Task, presets: list[str], seeds: list[int], repeats: int) -> list[Measurement]:
    """Runs everything in turns and says each result as it comes."""
    found = []
    names = ["textbook", *presets]
    for turn, (repeat, seed) in enumerate((repeat, seed) for repeat in range(repeats) for seed in seeds):
        start = turn % len(names)  # nobody always comes first
        for name in names[start:] + names[:start]:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                if name == "textbook":
                    one = measuring.textbook(task, seed, repeat, Path(folder))
                else:
                    one = measuring.preset(task, name, seed, repeat, Path(folder))
            found.append(one)
            took = f"{one.seconds:.1f} s ({one.cpu_s:.1f} s of processor time)"
            print(f"{name}, seed {seed}: {took}, accuracy {one.accuracy:.4f}", flush=True)
    return found


def table(measurements: list[Measurement]) -> str:
    """Returns a Markdown table: one row a seed and side, then the medians of the sides."""
    rows = [
        "| | seed | seconds | processor seconds | test accuracy (95 % interval) | in its report |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({one.name for one in measurements}, key=lambda name: (name != "textbook", name)):
        ours = [one for one in measurements if one.name == name]
        for one in ours:
            reported = "" if one.reported is None else f"{one.reported:.4f}"
            rows.append(
                f"| {name} | {one.seed} | {one.seconds:.1f} | {one.cpu_s:.1f} | {one.accuracy:.4f} "
                f"({one.interval[0]:.3f} to {one.interval[1]:.3f}) | {reported} |"
            )
        seconds, cpu_s, accuracy = (
            statistics.median(getattr(one, part) for one in ours) for part in ("seconds", "cpu_s", "accuracy")
        )
        rows.append(f"| **{name}** | median | {seconds:.1f} | {cpu_s:.1f} | {accuracy:.4f} | |")
    return "\n".join(rows)


def main() -> int:
    """Measures, prints the table and the claims, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("--presets", default="fast,balanced", help="some of fast,balanced,best (default: %(default)s)")
    parser.add_argument("--seeds", default="0", help="comma-separated (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="times each is measured (default: %(default)s)")
    parser.add_argument("--image-px", type=int, default=160, help="(default: %(default)s)")
    parser.add_argument("--augment", action="store_true", help="let the textbook flip and rotate at random")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to this file")
    given = parser.parse_args()

    task = Task(given.data.absolute(), given.weights.absolute(), given.image_px, given.augment)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    measurements = measure(task, given.presets.split(","), seeds, given.repeat)
    verdicts = claims.judge(measurements)
    print("", table(measurements), "", *map(str, verdicts), sep="\n")
    if given.json:
        content = {
            "facts": measuring.facts(),
            "measurements": [asdict(one) for one in measurements],
            "claims": [asdict(one) | {"is_met": one.is_met} for one in verdicts],
        }
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(one.is_met for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
