"""Proves that the exported model is the evaluated one, in a fresh process that knows nothing of this package.

Golden inputs (original files, and the pixels training made of them) and the probabilities that the evaluation
found are written into the export, with the script that compares them, so that whoever receives the model can
repeat the proof. A difference refuses the export.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from job.errors import ProofError
from job.export.saved_model import EXTRA
from job.storage import disk

_SCRIPT_PATH = Path(__file__).with_name("proof_script.py")
# Lines of the failed process carried in the error.
_SHOWN_LINES = 15


@dataclass(frozen=True, slots=True)
class Proof:
    """What the fresh process found. Differences are the largest |served - evaluated| probability.

    Attributes:
        num_examples: M.
        num_agreeing: Examples whose bytes give the evaluated best class; fewer than M where two are nearly equal.
        pixels_difference: Through the signature `pixels`.
        bytes_difference: Through `serving_default`, from the original file.
        pixels_tolerance: Allowed.
        bytes_tolerance: Allowed.
        tensorflow_version: Of the fresh process.
        seconds: From the question to the answer.
    """

    num_examples: int
    num_agreeing: int
    pixels_difference: float
    bytes_difference: float
    pixels_tolerance: float
    bytes_tolerance: float
    tensorflow_version: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def tolerance_for(compute_dtype: str, *, on_gpu: bool) -> float:
    """Returns how far probabilities of the proof, which runs on the CPU, may be from the evaluation's.

    float32 on the CPU: measured 1.2e-7 on 240 photographs with MobileNetV2 (bytes and pixels alike); 1e-4 leaves room
    for deeper networks and other orders of summation. On a GPU float32 convolutions run in TF32 (10 bits) and the
    16-bit types are summed in another order: 0.02 and 0.1 are judgement, not measured, and far below the 0.9 and more
    that a wrong label order, scale or channel order gave on the same photographs.
    """
    if compute_dtype == "bfloat16":
        return 0.1
    return 2e-2 if on_gpu or compute_dtype == "float16" else 1e-4


@contextmanager
def fresh_process() -> Iterator[subprocess.Popen[str]]:
    """Starts the process of a proof, which imports TensorFlow while the model is still being written.

    It gets no GPU (this one holds its memory) and no TF_CONFIG (it is no worker), and is gone at the end.
    """
    with subprocess.Popen(
        [sys.executable, "-I", str(_SCRIPT_PATH), "-"],
        env=_environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def prove(
    process: subprocess.Popen[str],
    export_dir: Path,
    *,
    examples: Sequence[tuple[str, bytes]],
    expected_scores: npt.NDArray[np.floating[Any]],
    pixels: npt.NDArray[np.uint8],
    tolerance: float,
    bytes_tolerance: float | None = None,
    classes: Sequence[str] | None = None,
    timeout_s: float = 900.0,
) -> Proof:
    """Writes the golden examples into `export_dir` and has a fresh process compare; repeating it is safe.

    Args:
        process: Of `fresh_process`, not used before.
        export_dir: A SavedModel of `saved_model.write`.
        examples: M (name, original file), M >= 1; M = 16 costs a second.
        expected_scores: float32 [M, K], calibrated probabilities as the evaluation found them.
        pixels: uint8 [M, image_px, image_px, 3], the images as the evaluation fed them.
        tolerance: Largest difference of a probability, of `tolerance_for`.
        bytes_tolerance: The same from the original file; None: as `tolerance`, since decoding and resizing are exact.
        classes: K names in the evaluation's label order; None takes the export's own word for them.
        timeout_s: Above 0.

    Raises:
        ProofError: When anything differs, or the process fails. Carries what the process said.
        TemporaryError: When the disk is full; repeating it begins afresh.
    """
    allowed = {"pixels": tolerance, "bytes": tolerance if bytes_tolerance is None else bytes_tolerance}
    if classes is None:
        classes = json.loads((export_dir / EXTRA / "model.json").read_text(encoding="utf-8"))["classes"]
    with disk.filling(export_dir / EXTRA, pixels.nbytes + sum(len(data) for _, data in examples)):
        _write_golden(export_dir, examples, expected_scores, pixels, allowed, classes)
        shutil.copyfile(_SCRIPT_PATH, export_dir / EXTRA / "prove.py")
    started = time.monotonic()
    try:
        stdout, stderr = process.communicate(f"{export_dir}\n", timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ProofError(
            f"The exported model at {export_dir} gave no answer within {timeout_s:g} s, in a process of its own.",
            next_step="Start the job again on a machine with more free memory and processors.",
        ) from error
    result = _result(stdout)
    if process.returncode != 0 or result is None or result["failures"]:
        raise _refusal(export_dir, process.returncode, stderr.strip() or stdout.strip(), result)
    return Proof(
        **{key: value for key, value in result.items() if key != "failures"}, seconds=time.monotonic() - started
    )


def _write_golden(
    export_dir: Path,
    examples: Sequence[tuple[str, bytes]],
    expected_scores: npt.NDArray[np.floating[Any]],
    pixels: npt.NDArray[np.uint8],
    allowed: Mapping[str, float],
    classes: Sequence[str],
) -> None:
    assert len(examples) == len(expected_scores) == len(pixels) >= 1, "an example is a file, its scores and its pixels"
    assert pixels.dtype == np.uint8, f"golden pixels are uint8, got {pixels.dtype}"
    assert np.isfinite(expected_scores).all(), "expected scores are finite"
    golden_dir = export_dir / EXTRA / "golden"
    shutil.rmtree(golden_dir, ignore_errors=True)
    golden_dir.mkdir(parents=True)
    listed = []
    for number, ((name, data), scores) in enumerate(zip(examples, expected_scores, strict=True)):
        last = re.sub(r"[^A-Za-z0-9._-]", "_", name.rsplit("/", 1)[-1])[-60:]
        file = f"{number:03d}_{last}"
        (golden_dir / file).write_bytes(data)
        listed.append({"name": name, "file": file, "scores": [float(score) for score in scores]})
    np.save(golden_dir / "pixels.npy", pixels, allow_pickle=False)
    golden = {
        "schema": 1,
        "classes": list(classes),
        "tolerance": dict(allowed),
        "pixels": "pixels.npy",
        "examples": listed,
    }
    (golden_dir / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    left_out = {"TF_CONFIG", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_THREAD_MODE"}
    kept = {key: value for key, value in ours.items() if key not in left_out}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUTF8": "1"}


def _result(stdout: str) -> dict[str, Any] | None:
    lines = stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _refusal(export_dir: Path, exit_code: int, output: str, result: dict[str, Any] | None) -> ProofError:
    if result is not None and result["failures"]:
        said, count = result["failures"], len(result["failures"])
        what = f"does not give what the evaluation found ({count} differences)"
    else:
        said = (output or "nothing").splitlines()[-_SHOWN_LINES:]
        what = f"cannot be used by a fresh process (exit {exit_code})"
    shown = "\n".join(f"    {line}" for line in said[:_SHOWN_LINES])
    return ProofError(
        f"The exported model at {export_dir} {what}:\n{shown}",
        next_step=f"Repeat it with `python -I {export_dir / EXTRA / 'prove.py'}`. Do not use this model.",
    )
