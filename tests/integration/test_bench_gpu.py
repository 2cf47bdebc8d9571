"""`scripts/bench/gpu`: what it says without a GPU, the arithmetic of its table, and its steps on a processor."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("gpu")


def row(gpu: Any, kind: str, num_gpus: int, images_s: float, backbone: str = "resnet50") -> Any:
    return gpu.Measured(backbone, kind, "", num_gpus, 256 * num_gpus, 224, "mixed_bfloat16", images_s, 0)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_without_a_gpu_nothing_is_measured_and_the_exit_code_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "gpu.py")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert done.stdout == ""
    assert "nothing was measured" in done.stderr
    assert "NVIDIA/DeepLearningExamples" in done.stderr


def test_the_table_divides_by_gpus_by_one_gpu_and_by_what_is_published(gpu: Any) -> None:
    rows = [row(gpu, "finetune", 1, 1900), row(gpu, "finetune", 8, 13920), row(gpu, "head", 8, 50000)]
    one, eight, head = (cells(line) for line in gpu.table(rows).splitlines()[2:])
    assert one[4:] == ["1900", "1900", "1.00", "A100 40 GB 2375; V100 16 GB 1270", "0.80; 1.50"]
    assert eight[4:] == ["13920", "1740", "0.92", "A100 40 GB 17400; V100 16 GB 9510", "0.80; 1.46"]
    # Frozen work and a head alone have no counterpart in training from scratch, nor has a row without its single GPU.
    assert head[4:] == ["50000", "6250", "", "", ""]


def test_the_rate_counts_what_comes_after_the_warm_up(gpu: Any) -> None:
    now, calls = [0.0], [0]

    def run() -> None:
        calls[0] += 1
        now[0] += 10.0 if calls[0] <= gpu.WARM_UP else 0.5

    assert gpu.rate(run, 64, seconds=2.0, clock=lambda: now[0]) == pytest.approx(128.0)


def test_every_published_figure_names_its_source(gpu: Any) -> None:
    for one in gpu.published.PUBLISHED:
        assert one.source.startswith("https://github.com/NVIDIA/DeepLearningExamples/blob/")
        assert one.backbone in gpu.BACKBONES
        assert one.note


@pytest.mark.parametrize("kind", ["features", "head", "finetune"])
def test_each_kind_of_work_runs(gpu: Any, kind: str) -> None:
    found = gpu.measure("mobilenet_025", kind, num_gpus=1, image_px=32, batch=4, seconds=0.0, more=[])
    assert found.images_s > 0
    assert (found.batch, found.policy) == (4, "float32")
