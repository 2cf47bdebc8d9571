"""Writes the SavedModel: encoded images in, class names and calibrated probabilities out.

Preprocessing, labels and temperature are inside the graph, so that no server and no colleague has to repeat them.
Three signatures:

    serving_default  image_bytes: string [B]                  → classes string [B], probabilities float32 [B],
    pixels           pixels: float32 [B, px, px, 3], 0..255   →   scores float32 [B, K] in label order
    labels                                                    → labels string [K]

Beside them, in `assets.extra` (which loaders ignore and every copy keeps): labels.txt, one name a line, and
model.json, all of the above for programs that do not load TensorFlow.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from job import __version__
from job.export import decoding
from job.export.decoding import Geometry
from job.model import fusing
from job.storage import disk

__all__ = ["EXTRA", "Geometry", "write"]

EXTRA = "assets.extra"

# Images decoded at the same time within a batch.
_PARALLEL_DECODES = 16


def write(model: keras.Model, *, classes: Sequence[str], temperature: float, geometry: Geometry, to: Path) -> None:
    """Writes the SavedModel folder `to`, complete or not at all; one that is there is replaced.

    Args:
        model: float32 [B, image_px, image_px, 3], 0..255 → logits [B, K], of any compute dtype.
        classes: K names, in label order.
        temperature: Logits are divided by it, above 0.
        geometry: How the training images were made square.
        to: The folder, "<output>/export/1"; the last part must be a whole number for TensorFlow Serving.

    Raises:
        TemporaryError: When the disk is full, beforehand where the weights alone do not fit.
    """
    assert model.output_shape[-1] == len(classes), f"{len(classes)} classes for output {model.output_shape}"
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk.border(str(to), to), disk.filling(to, sum(array.nbytes for array in model.get_weights())):
            to.parent.mkdir(parents=True, exist_ok=True)
            # Not by `keras.export.ExportArchive`, which traces each signature twice: 5.1 s for a MobileNetV2, and 2.4 s
            # this way.
            tf.saved_model.save(
                tf.train.Checkpoint(variables=list(model.variables)),
                str(partial),
                signatures=_signatures(model, classes, temperature, geometry),
            )
            _write_facts(partial / EXTRA, classes, temperature, geometry)
            shutil.rmtree(to, ignore_errors=True)
            os.replace(partial, to)
    finally:
        # Half of a model on a full disk would only keep it full.
        shutil.rmtree(partial, ignore_errors=True)


def _write_facts(extra: Path, classes: Sequence[str], temperature: float, geometry: Geometry) -> None:
    extra.mkdir()
    (extra / "labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    facts = {
        "schema": 1,
        "classes": list(classes),
        "temperature": temperature,
        **geometry.to_dict(),
        "job_version": __version__,
        "tensorflow_version": tf.__version__,
        "keras_version": keras.__version__,
    }
    (extra / "model.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _signatures(
    model: keras.Model, classes: Sequence[str], temperature: float, geometry: Geometry
) -> dict[str, Callable[..., Any]]:
    names = tf.constant([name.encode() for name in classes])
    side = geometry.image_px
    run = fusing.inference(model)

    def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.cast(run(pixels), tf.float32)
        scores = tf.nn.softmax(logits / temperature)
        best = tf.argmax(scores, axis=-1)
        return {"classes": tf.gather(names, best), "probabilities": tf.reduce_max(scores, axis=-1), "scores": scores}

    # One graph that both signatures call.
    classified = _function(classify, tf.TensorSpec([None, side, side, 3], tf.float32, name="pixels"))

    def serve(image_bytes: tf.Tensor) -> Any:
        # All decoders run on the CPU; without this, pieces between them are put on a GPU and copied to and fro.
        with tf.device("/device:CPU:0"):
            pixels = tf.map_fn(
                lambda one: decoding.pixels(one, geometry),
                image_bytes,
                fn_output_signature=tf.TensorSpec([side, side, 3], tf.float32),
                parallel_iterations=_PARALLEL_DECODES,
            )
        return classified(pixels)

    return {
        "serving_default": _function(serve, tf.TensorSpec([None], tf.string, name="image_bytes")),
        "pixels": classified,
        "labels": _function(lambda: {"labels": tf.identity(names)}),
    }


def _function(function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    return tf.function(function, input_signature=signature, autograph=False)
