"""A network with real ImageNet weights on real photographs: original files are served as the evaluation saw them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from job.dataset import geometry as packing
from job.export import proof, saved_model

CLASSES = tuple(f"class {number}" for number in range(12))


def mobilenet(weights_path: Path) -> keras.Model:
    """Returns MobileNet(alpha=0.25) with a fixed random head, scaled so that it is neither sure nor blind."""
    inputs = keras.Input((128, 128, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    base = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_tensor=scaled, pooling="avg")
    base.load_weights(weights_path)
    head = keras.layers.Dense(12, kernel_initializer=keras.initializers.RandomNormal(stddev=0.4, seed=0))
    return keras.Model(inputs, head(base.output))


def test_original_photographs_give_the_evaluated_probabilities(assets: Path, kit: Any, tmp_path: Path) -> None:
    paths = sorted((assets / "data" / "flowers12" / "test").rglob("*.jpg"))[::30]
    files = [(path.name, path.read_bytes()) for path in paths]
    pixels = []
    for _, data in files:
        with Image.open(io.BytesIO(data)) as image:
            pixels.append(packing.fit(image.convert("RGB"), 128, "squash"))
    model = mobilenet(assets / "weights" / "MobileNet_0.25_128_imagenet_notop.weights.h5")
    expected = kit.evaluated(model, np.stack(pixels))
    assert np.ptp(expected, axis=0).max() > 0.3  # the photographs do not all look the same to it
    geometry = saved_model.Geometry("squash", 128, 128)
    saved_model.write(model, classes=CLASSES, temperature=kit.temperature, geometry=geometry, to=tmp_path / "1")
    tolerance = proof.tolerance_for("float32", on_gpu=False)
    with proof.fresh_process() as process:
        found = proof.prove(
            process,
            tmp_path / "1",
            examples=files,
            expected_scores=expected,
            pixels=np.stack(pixels),
            tolerance=tolerance,
            classes=CLASSES,
        )
    assert found.num_agreeing == len(files) == 8
    assert found.bytes_difference < 1e-5
