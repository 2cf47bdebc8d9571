"""The proof accepts a right export and refuses wrong ones, from a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.errors import ProofError
from job.export import proof, saved_model


@pytest.fixture
def own_export(export_dir: Path, tmp_path: Path) -> Path:
    """A copy of the export that the test may change."""
    return Path(shutil.copytree(export_dir, tmp_path / "own" / "1"))


def prove(export_dir: Path, model: keras.Model, kit: Any, **changes: Any) -> proof.Proof:
    files, pixels = kit.pictures()
    settings: dict[str, Any] = {
        "examples": files,
        "expected_scores": kit.evaluated(model, pixels),
        "pixels": pixels,
        "tolerance": proof.tolerance_for("float32", on_gpu=False),
        "classes": kit.classes,
    }
    with proof.fresh_process() as process:
        return proof.prove(process, export_dir, **(settings | changes))


def test_a_right_export_is_proven_and_can_be_proven_again_by_anyone(
    own_export: Path, model: keras.Model, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker's environment and a broken Python path must not reach the fresh process.
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["localhost:1", "localhost:2"]}}')
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    found = prove(own_export, model, kit)
    assert (found.num_examples, found.num_agreeing) == (6, 6)
    assert found.pixels_difference < 1e-5
    assert found.bytes_difference < 1e-5
    assert json.loads(json.dumps(found.to_dict()))["tensorflow_version"] == tf.__version__
    golden = json.loads((own_export / "assets.extra" / "golden" / "golden.json").read_text(encoding="utf-8"))
    assert golden["examples"][0]["file"] == "000_picture_0.x"
    moved = own_export.rename(own_export.with_name("2"))
    again = subprocess.run(
        [sys.executable, "-I", str(moved / "assets.extra" / "prove.py")], capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout.splitlines()[-1])["failures"] == []


def test_labels_in_another_order_are_refused(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    wrong = ("green", "röd", "blue")
    saved_model.write(model, classes=wrong, temperature=kit.temperature, geometry=kit.geometry, to=tmp_path / "1")
    with pytest.raises(ProofError, match=r"labels: \['green', 'röd', 'blue'\] from position 0 on") as caught:
        prove(tmp_path / "1", model, kit)
    assert caught.value.exit_code == 81
    assert "prove.py" in caught.value.next_step


def test_an_export_that_scales_its_input_again_is_refused(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    inputs = keras.Input((16, 16, 3))
    doubled = keras.Model(inputs, model(keras.layers.Rescaling(1 / 255)(inputs)))
    saved_model.write(
        doubled, classes=kit.classes, temperature=kit.temperature, geometry=kit.geometry, to=tmp_path / "1"
    )
    with pytest.raises(ProofError, match=r"bytes of test/röd/picture 0\.x: probabilities differ by"):
        prove(tmp_path / "1", model, kit)


def test_an_export_without_the_fitted_temperature_is_refused(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    saved_model.write(model, classes=kit.classes, temperature=1.0, geometry=kit.geometry, to=tmp_path / "1")
    with pytest.raises(ProofError, match="does not give what the evaluation found"):
        prove(tmp_path / "1", model, kit)


def test_another_geometry_is_refused_through_the_bytes_alone(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    geometry = saved_model.Geometry("pad", 20, 16)
    saved_model.write(model, classes=kit.classes, temperature=kit.temperature, geometry=geometry, to=tmp_path / "1")
    with pytest.raises(ProofError) as caught:
        prove(tmp_path / "1", model, kit)
    assert "bytes of" in caught.value.message
    assert "pixels of" not in caught.value.message


def test_a_damaged_export_is_refused_with_what_the_process_said(own_export: Path, model: keras.Model, kit: Any) -> None:
    (own_export / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ProofError, match=r"(?s)cannot be used by a fresh process \(exit 1\).*saved_model\.pb"):
        prove(own_export, model, kit)


def test_a_process_that_takes_too_long_is_refused(own_export: Path, model: keras.Model, kit: Any) -> None:
    with pytest.raises(ProofError, match=r"gave no answer within 0\.01 s"):
        prove(own_export, model, kit, timeout_s=0.01)


@pytest.mark.parametrize(
    ("dtype", "on_gpu", "expected"),
    [("float32", False, 1e-4), ("float32", True, 2e-2), ("float16", False, 2e-2), ("bfloat16", True, 0.1)],
)
def test_less_exact_arithmetic_is_allowed_larger_differences(dtype: str, on_gpu: bool, expected: float) -> None:
    assert proof.tolerance_for(dtype, on_gpu=on_gpu) == expected


def test_golden_scores_that_are_not_finite_are_no_proof(own_export: Path, model: keras.Model, kit: Any) -> None:
    with pytest.raises(AssertionError, match="expected scores are finite"):
        prove(own_export, model, kit, expected_scores=np.full((6, 3), np.nan, np.float32))
