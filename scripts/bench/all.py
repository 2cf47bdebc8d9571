"""Every stage of the job beside its yardstick, in one run on one machine: a table, met or NOT MET.

    scripts/bench/all --quick                           # shows that it runs
    scripts/bench/all DATA WEIGHTS --json bench.json

DATA is a folder with train/CLASS and test/CLASS, WEIGHTS the file of MobileNetV2 without its top. Without them drawn
images and the demo's small backbone stand in, and the whole job is left out. All figures are of sides that take turns;
compare within one run only, on a quiet machine. Ends with exit code 1 where a requirement is not met, or a part could
not be measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import room
from rows import Row, table

ROOMS = (
    "startup",
    "pulling",
    "preparing",
    "feeding",
    "frozen",
    "tuning",
    "overhead",
    "predicting",
    "whole",
    "replicas",
    "scale",
)
"""Programs beside this one, in the order of the run's stages."""
NEED_DATA = ("whole",)


def measured(name: str, arguments: Sequence[str], folder: Path) -> tuple[list[Row], float]:
    """Runs a room in a process of its own; returns its rows, none where it failed, and its seconds."""
    path = folder / f"{name}.json"
    program = Path(__file__).with_name(f"{name}.py")
    started_s = time.monotonic()
    command = [sys.executable, str(program), *arguments, "--json", str(path)]
    done = subprocess.run(command, cwd=room.ROOT, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - started_s
    if not path.is_file():
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        print(f"{name} ended with exit code {done.returncode} and measured nothing:\n{said}", file=sys.stderr)
        return [], took_s
    return [Row.from_json(one) for one in json.loads(path.read_text())], took_s


def exit_code(by_room: dict[str, list[Row]]) -> int:
    """Returns 0 where every room measured something and nothing is NOT MET, else 1."""
    found = [row for rows in by_room.values() for row in rows]
    return 0 if all(by_room.values()) and all(row.is_met is not False for row in found) else 1


def facts() -> dict[str, Any]:
    """Returns what a reader of the figures must know of the machine."""
    import measuring

    return {**measuring.facts(), "load": os.getloadavg()}


def main() -> int:
    parser = room.parser(__doc__)
    parser.add_argument("--only", metavar="ROOMS", help=f"comma-separated, of {','.join(ROOMS)}")
    given = parser.parse_args()
    rooms = given.only.split(",") if given.only else ROOMS
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; allowed are {', '.join(ROOMS)}")
    has_data = given.data is not None and given.weights is not None
    arguments = [str(path.absolute()) for path in (given.data, given.weights) if path] + ["--quick"] * given.quick
    before, by_room = facts(), {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in rooms:
            if name in NEED_DATA and not has_data:
                print(f"{name}: left out, it needs DATA and WEIGHTS", file=sys.stderr)
                continue
            by_room[name], took_s = measured(name, arguments, Path(folder))
            print(f"{name}: {len(by_room[name])} rows in {took_s:.0f} s", file=sys.stderr, flush=True)
    rows = [row for found in by_room.values() for row in found]
    print(table(rows))
    if given.json:
        content = {"facts": before, "is_quick": given.quick, "rows": [row.to_json() for row in rows]}
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    return exit_code(by_room)


if __name__ == "__main__":
    sys.exit(main())
