"""Memory is bounded whatever the dataset: measured in processes of their own, by what the system counts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
Encode = Callable[..., bytes]

NUM_ROWS = 100_000
NUM_FILES = 10_000

SURVEY = """
import resource, sys
from pathlib import Path
from job.config import DataConfig
from job.dataset.prepare import prepare
data, work = Path(sys.argv[1]), Path(sys.argv[2])
dataset = prepare(DataConfig(max_bad=1.0), dataset_dir=data, work_dir=work, stored_px=16, seed=0)
dataset.write_csv(work / "dataset.csv")
# Not getrusage's own figure: it begins with the size of the process that started this one.
own = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
peak = own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(len(dataset.rows), dataset.summary.num_ok, peak // 1024)
"""

LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from job.config import DataConfig
from job.dataset.prepare import prepare
data, work, pack_gb, allowed = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
used = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + allowed,) * 2)
dataset = prepare(DataConfig(pack_gb=pack_gb), dataset_dir=data, work_dir=work, stored_px=512, seed=0)
total = sum(int(dataset.pixels.gather(np.arange(at, at + 8)).nbytes) for at in range(0, len(dataset.rows), 8))
print(type(dataset.pixels).__name__, total)
"""


def run(program: str, *arguments: object) -> list[str]:
    # One thread for matrices: each of OpenBLAS's threads would reserve memory of its own.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_hundred_thousand_rows_take_less_than_500_mb(tmp_path: Path, encoded: Encode) -> None:
    """A tenth of the files are there (that keeps the test quick): all links to 500 images, so many are copies."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(NUM_FILES):
        if number < 500:
            (data / f"{number}.png").write_bytes(encoded(number, size=(8, 8)))
        else:
            os.link(data / f"{number % 500}.png", data / f"{number}.png")
    with (data / "labels.csv").open("w", encoding="utf-8") as file:
        file.write("image,label\n")
        file.writelines(f"{number}.png,class {number % 10}\n" for number in range(NUM_ROWS))
    num_rows, num_ok, peak_mb = map(int, run(SURVEY, data, tmp_path / "w"))
    assert (num_rows, num_ok) == (NUM_ROWS, NUM_FILES)
    assert 50 < peak_mb < 500


@pytest.mark.parametrize(("pack_gb", "kind"), [(1.0, "PackedPixels"), (0.0, "DecodedPixels")])
def test_no_stage_holds_all_decoded_images(tmp_path: Path, encoded: Encode, pack_gb: float, kind: str) -> None:
    """216 images are 170 MB decoded; survey, pack and a pass over all of them get along with 100 MB a process."""
    for number in range(216):
        folder = tmp_path / "data" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(encoded(number, size=(64, 64), form="JPEG"))
    total = 216 * 512 * 512 * 3
    allowed = 100 << 20
    assert total > 1.5 * allowed
    assert run(LIMITED, tmp_path / "data", tmp_path / "w", pack_gb, allowed) == [kind, str(total)]
