"""What is written, and what comes out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.export import saved_model


def test_bytes_and_pixels_give_what_the_model_gave(export_dir: Path, model: keras.Model, kit: Any) -> None:
    files, pixels = kit.pictures()
    expected = kit.evaluated(model, pixels)
    assert np.ptp(expected, axis=0).min() > 0.3  # live: the pictures do not all look the same to it
    loaded = tf.saved_model.load(str(export_dir))
    served = loaded.signatures["serving_default"](image_bytes=tf.constant([data for _, data in files]))
    direct = loaded.signatures["pixels"](pixels=tf.constant(pixels, tf.float32))
    for output in (served, direct):
        assert output["scores"].numpy() == pytest.approx(expected, abs=1e-6)
        best = expected.argmax(axis=1)
        assert [name.decode() for name in output["classes"].numpy()] == [kit.classes[i] for i in best]
        assert np.array_equal(output["probabilities"], output["scores"].numpy().max(axis=1))
        assert output["scores"].dtype == tf.float32


def test_labels_are_inside_the_graph_and_beside_it(export_dir: Path, kit: Any) -> None:
    loaded = tf.saved_model.load(str(export_dir))
    labels = loaded.signatures["labels"]()["labels"].numpy()
    assert tuple(name.decode() for name in labels) == kit.classes
    extra = export_dir / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8").splitlines() == list(kit.classes)
    facts = json.loads((extra / "model.json").read_text(encoding="utf-8"))
    assert facts["classes"] == list(kit.classes)
    assert (facts["fit"], facts["stored_px"], facts["image_px"], facts["temperature"]) == ("squash", 20, 16, 1.7)


def test_the_temperature_is_inside(export_dir: Path, model: keras.Model, kit: Any) -> None:
    _, pixels = kit.pictures()
    found = tf.saved_model.load(str(export_dir)).signatures["pixels"](pixels=tf.constant(pixels, tf.float32))
    assert np.abs(found["scores"].numpy() - kit.evaluated(model, pixels, temperature=1.0)).max() > 0.01


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_models_of_mixed_precision_keep_their_numbers(policy: str, kit: Any, tmp_path: Path) -> None:
    model = kit.tiny(policy)
    saved_model.write(model, classes=kit.classes, temperature=1.0, geometry=kit.geometry, to=tmp_path / "1")
    _, pixels = kit.pictures()
    found = tf.saved_model.load(str(tmp_path / "1")).signatures["pixels"](pixels=tf.constant(pixels, tf.float32))
    # Eagerly and in a graph the 16-bit sums are rounded in another order.
    assert found["scores"].numpy() == pytest.approx(kit.evaluated(model, pixels, temperature=1.0), abs=0.02)


def test_writing_again_replaces_and_leaves_nothing_else(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    to = tmp_path / "export" / "1"
    (to.with_name(".1.partial")).mkdir(parents=True)  # of a writer that was killed
    for temperature in (1.0, 2.0):
        saved_model.write(model, classes=kit.classes, temperature=temperature, geometry=kit.geometry, to=to)
    assert [path.name for path in to.parent.iterdir()] == ["1"]
    assert json.loads((to / "assets.extra" / "model.json").read_text(encoding="utf-8"))["temperature"] == 2.0


def test_a_model_with_another_number_of_outputs_is_refused(model: keras.Model, kit: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 classes for output"):
        saved_model.write(model, classes=("a", "b"), temperature=1.0, geometry=kit.geometry, to=tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_a_model_made_under_a_mirrored_strategy_exports(kit: Any, tmp_path: Path) -> None:
    cpus = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in cpus])
    with strategy.scope():
        model = kit.tiny()
    saved_model.write(model, classes=kit.classes, temperature=1.0, geometry=kit.geometry, to=tmp_path / "1")
    _, pixels = kit.pictures()
    found = tf.saved_model.load(str(tmp_path / "1")).signatures["pixels"](pixels=tf.constant(pixels, tf.float32))
    assert found["scores"].numpy() == pytest.approx(kit.evaluated(model, pixels, temperature=1.0), abs=1e-6)
