"""What the presets are held against: it trains and is scored on the test folder."""

from __future__ import annotations

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

# Keras 3.15 with NumPy 2.4, when weights are saved.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def test_the_textbook_trains_saves_and_is_scored_on_the_test_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    measuring = importlib.import_module("measuring")
    rng = np.random.default_rng(0)
    for split, num in (("train", 12), ("test", 5)):
        for name, level in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(num):
                pixels = np.clip(level + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    weights = tmp_path / "backbone.weights.h5"
    keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None).save_weights(weights)

    task = measuring.Task(tmp_path / "data", weights, image_px=32, augment=True)
    found = measuring.textbook(task, seed=3, repeat=0, folder=tmp_path)
    assert (found.name, found.seed, found.num_images) == ("textbook", 3, 10)
    assert found.cpu_s > 0
    assert found.interval[0] <= found.accuracy <= found.interval[1]
    assert found.accuracy * 10 == pytest.approx(round(found.accuracy * 10))
    assert (tmp_path / "textbook" / "model.keras").is_file()
