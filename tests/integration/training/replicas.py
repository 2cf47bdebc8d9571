"""Trains a few steps on N virtual devices and prints the numbers as JSON; started by test_replicas.py.

Virtual devices have to be made before TensorFlow starts, hence a process of its own for each N. It trains once with the
settings it is started with, or anew with those of each line it reads.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from job import cluster, config
from job.dataset.feed import Feed
from job.training import distribution, optimizer, recipe
from job.training.recipe import Phase
from job.training.spans import spans
from job.training.step import TrainStep, as_is

STEPS = 6


def main() -> None:
    for settings in sys.argv[1:] or iter(sys.stdin.readline, ""):
        print(json.dumps(trained(json.loads(settings))), flush=True)


def trained(settings: dict[str, Any]) -> dict[str, object]:
    overrides = [f"train.strategy={settings.get('strategy', 'single')}"]
    if settings["replicas"] > 1:
        overrides = ["train.strategy=mirrored", f"train.replicas={settings['replicas']}"]
    train = config.load(None, ["train.deterministic=true", *overrides]).train
    placed = distribution.make(train, cluster.of(train.strategy, os.environ))
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(37, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 37).astype(np.int32)
    if settings.get("poison"):
        features[settings["poison"]] = np.inf
    with placed.strategy.scope():
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(8, activation="tanh")(inputs)
        net = keras.Model(inputs, keras.layers.Dense(3)(hidden))
        groups = [net.layers[2].trainable_variables, net.layers[1].trainable_variables]
        phase = Phase(
            **{
                **{field: getattr(_phase(), field) for field in Phase.__dataclass_fields__},
                **settings.get("phase", {}),
            }
        )
        opt = optimizer.build(phase, groups, is_float16=settings.get("is_float16", False))
    variables = [variable for group in groups for variable in group]
    step = TrainStep(
        placed,
        net,
        opt,
        variables,
        prepare=as_is,
        class_weights=np.array(settings.get("class_weights", [1, 1, 1]), np.float32),
        label_smoothing=settings.get("label_smoothing", 0.0),
        clip_norm=phase.clip_norm,
        accumulate=settings.get("accumulate", 1),
        xla=settings.get("xla", False),
        is_float16=settings.get("is_float16", False),
        at_once=settings.get("at_once", 1),
    )
    fetched: set[int] = set()

    def fetch(indices: np.ndarray, _: np.ndarray) -> np.ndarray:
        fetched.update(indices.tolist())
        return features[indices]

    fed = placed.fed(settings["batch"])
    feed = Feed(np.arange(37), labels, fetch, batch=settings["batch"], seed=3, fed=fed)
    found: dict[str, object] = {"worker": placed.worker, "num_replicas": placed.num_replicas}
    found |= {"losses": [], "batches": [], "first": [v.numpy().tolist() for v in variables]}
    try:
        for span in spans(0, settings.get("steps", STEPS), at_once=step.at_once, ends=()):
            batches = [feed.batch(number) for number in span]
            results = step.run(step.place(batches))
            found["losses"].append(float(results["loss"]))  # type: ignore[attr-defined]
            found["batches"] += [batch.indices.tolist() for batch in batches]  # type: ignore[operator]
    except tf.errors.InvalidArgumentError as error:
        found["error"] = error.message
    found["last"] = [v.numpy().tolist() for v in variables]
    found["fetched"] = sorted(fetched)
    return found


def _phase() -> Phase:
    from job.model import backbones

    settings = config.load(None, ["train.head.epochs=4", "train.head.learning_rate=0.05", "train.batch=8"])
    return recipe.resolve(settings, backbones.get("mobilenet_v2"), num_train=37, num_classes=3).phases[0]


if __name__ == "__main__":
    main()
