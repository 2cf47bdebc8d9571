"""One of several workers: what goes round between them, as JSON; started by test_multi_worker.py.

python -m tests.integration.training.exchange FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

from job import cluster, config
from job.model import cut as cuts
from job.training import distribution
from job.training.features import FeatureCache
from job.training.forward import Forward
from job.training.recipe import Augmentation
from job.training.views import Views

N, PX = 19, 8
EXAMPLES = np.array([0, 2, 3, 5, 7, 8, 9, 10, 12, 13, 17])


class Asked:
    """Pixels that remember which were asked for."""

    def __init__(self) -> None:
        self._images = np.random.default_rng(0).integers(0, 256, (N, PX, PX, 3), dtype=np.uint8)
        self.rows: list[int] = []

    def __len__(self) -> int:
        return N

    def gather(self, indices: np.ndarray) -> np.ndarray:
        self.rows += indices.tolist()
        return self._images[indices]


def classifier() -> object:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((PX, PX, 3))
    maps = keras.layers.Conv2D(4, 3, activation="relu", name="block1_out")(keras.layers.Rescaling(1 / 127.5)(pixels))
    features = keras.layers.Identity(name="features")(keras.layers.GlobalAveragePooling2D()(maps))
    return keras.Model(pixels, keras.layers.Dense(3, name="logits")(features))


def main() -> None:
    folder = Path(sys.argv[1])
    train = config.load(None, ["train.deterministic=true"]).train
    placed = distribution.make(train, cluster.of(train.strategy, os.environ))
    worker = placed.worker
    found: dict[str, object] = {"worker": worker}
    # Of unequal lengths, one of them empty, one above what goes in one go; every byte.
    sent = [b"", bytes(range(256)) * 8200 + b"odd", "ein Süßes".encode()]
    heard = placed.gather(sent[worker])
    found["gathered"] = [each == sent[number] for number, each in enumerate(heard)]
    found["text"] = placed.from_chief(f"worker {worker}")
    found["least"] = placed.least(7 - worker)
    with placed.strategy.scope():
        model = classifier()
    pixels, views = Asked(), Views(3, PX, Augmentation(flip=True, crop_scale=0.5, color=0.2))
    made = FeatureCache(model, pixels, placed, views, folder=folder, batch=2, budget_bytes=1e9, key="data")
    cut = cuts.features_cut(model)
    plain = made.plain(cut, EXAMPLES)
    cached = made.views(cut, plain, EXAMPLES, num_views=2)
    found["features"] = [view.fetch(EXAMPLES).tolist() for view in cached.views]
    found["asked"] = pixels.rows
    forward = Forward(placed, lambda images, _: (model(views.plain(images), training=False),), batch=2)
    found["logits"] = forward.shared(Asked().gather, EXAMPLES).tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
