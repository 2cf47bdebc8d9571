"""Transfer learning as the guides teach it, in one file: what `flowers.py` holds the job's presets against.

Two phases of `model.fit` on a MobileNetV2: the head on a frozen backbone (Adam 1e-3), then the top 30 layers with it
(Adam 1e-5). The backbone is called with `training=False`, as the guide has it. `--augment` adds the guides' random flip
and rotation, which cost time on every epoch. Prints one line of JSON: {"accuracy", "interval", "num_images"} on the
test folder.
Sources: https://keras.io/guides/transfer_learning, https://www.tensorflow.org/tutorials/images/transfer_learning
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from job.evaluation import metrics

BATCH = 32
HEAD_EPOCHS, HEAD_LEARNING_RATE = 5, 1e-3
FINETUNE_EPOCHS, FINETUNE_LEARNING_RATE = 5, 1e-5
FINETUNE_LAYERS = 30
DROPOUT = 0.2
ROTATION = 0.2  # of a full turn, to either side
VALIDATION_SHARE = 0.1


def build(backbone: keras.Model, num_classes: int, image_px: int, *, augment: bool) -> keras.Model:
    """Returns float32 [B, S, S, 3], 0..255 → logits float32 [B, K]."""
    inputs = keras.Input((image_px, image_px, 3))
    x = inputs
    if augment:
        x = keras.layers.RandomFlip("horizontal")(x)
        x = keras.layers.RandomRotation(ROTATION)(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = backbone(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(DROPOUT)(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))


def compile_for(model: keras.Model, learning_rate: float) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])


def main() -> None:
    """Trains, evaluates on the test folder, and saves the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS and test/CLASS")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2 without its top, .h5")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--image-px", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augment", action="store_true", help="random flip and rotation, inside the model")
    given = parser.parse_args()

    keras.utils.set_random_seed(given.seed)
    size = (given.image_px, given.image_px)
    train, validation = keras.utils.image_dataset_from_directory(
        given.data / "train",
        image_size=size,
        batch_size=BATCH,
        validation_split=VALIDATION_SHARE,
        subset="both",
        seed=given.seed,
        verbose=False,
    )
    test = keras.utils.image_dataset_from_directory(
        given.data / "test", image_size=size, batch_size=BATCH, shuffle=False, verbose=False
    )
    assert train.class_names == test.class_names, "train and test have different classes"
    labels = np.concatenate([labels for _, labels in test])

    backbone = keras.applications.MobileNetV2(
        input_shape=(*size, 3), include_top=False, weights=str(given.weights.absolute())
    )
    backbone.trainable = False
    model = build(backbone, len(train.class_names), given.image_px, augment=given.augment)
    compile_for(model, HEAD_LEARNING_RATE)
    model.fit(train.prefetch(2), validation_data=validation.prefetch(2), epochs=HEAD_EPOCHS, verbose=0)

    backbone.trainable = True
    for layer in backbone.layers[:-FINETUNE_LAYERS]:
        layer.trainable = False
    compile_for(model, FINETUNE_LEARNING_RATE)
    model.fit(train.prefetch(2), validation_data=validation.prefetch(2), epochs=FINETUNE_EPOCHS, verbose=0)

    logits = model.predict(test.prefetch(2), verbose=0)
    given.output.mkdir(parents=True, exist_ok=True)
    model.save(given.output / "model.keras")
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    interval = metrics.confidence_intervals(logits, labels, resamples=100, seed=0)["accuracy"]
    print(json.dumps({"accuracy": accuracy, "interval": interval, "num_images": len(labels)}))


if __name__ == "__main__":
    main()
