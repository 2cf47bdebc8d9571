"""From RGB 0..255 to what each backbone was trained on, as layers inside the model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from job.model.backbones import Backbone, Preprocessing

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1. Source: keras/src/applications/imagenet_utils.py, mode "torch"."""
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Of BGR in 0..255. Source: the same file, mode "caffe"."""


@keras.saving.register_keras_serializable(package="finetune_job")
class ReverseChannels(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """RGB to BGR, or back: float32 [B, H, W, C], the last axis reversed."""

    def call(self, inputs: Any) -> Any:
        return inputs[..., ::-1]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def apply(backbone: Backbone, pixels: Any) -> Any:
    """Lays the backbone's preprocessing onto a KerasTensor, in float32 whatever the dtype policy.

    Args:
        pixels: float32 [B, H, W, 3], RGB, 0..255.

    Returns:
        What the backbone takes; equal to `preprocess_input` of its module in `keras.applications`.
    """
    rescaling = keras.layers.Rescaling
    match backbone.preprocessing:
        case Preprocessing.INSIDE:
            return pixels
        case Preprocessing.SYMMETRIC:
            return rescaling(1 / 127.5, offset=-1.0, name="preprocessing", dtype="float32")(pixels)
        case Preprocessing.TORCH:
            scale = [1 / (255 * std) for std in IMAGENET_STD]
            offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
            return rescaling(scale, offset=offset, name="preprocessing", dtype="float32")(pixels)
        case Preprocessing.CAFFE:
            bgr = ReverseChannels(name="rgb_to_bgr", dtype="float32")(pixels)
            offset = [-mean for mean in CAFFE_MEAN_BGR]
            return rescaling(1.0, offset=offset, name="preprocessing", dtype="float32")(bgr)


def complete_efficientnet(network: Any) -> None:
    """Gives the Normalization inside an EfficientNet (v1) the statistics its ImageNet weights need.

    They were trained on `(x - mean) / var` by mistake. Keras corrects for it with one more layer, but only for
    `weights="imagenet"`: the same weights from a file would get images about 2.1 times too dark. Here the factor
    `1 / sqrt(std)` goes into the variance, so the graph is the same whatever the weights. Statistics that are
    neither ImageNet's nor untouched were adapted by the user and are left alone.

    Source: tensorflow#49930; keras/src/applications/efficientnet.py.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, count = layer.get_weights()
            is_untouched = np.array_equal(mean, np.zeros(3)) and np.array_equal(variance, np.ones(3))
            if is_untouched or np.allclose(variance, np.square(IMAGENET_STD), rtol=1e-3):
                layer.set_weights([np.asarray(IMAGENET_MEAN), np.power(IMAGENET_STD, 3), count])
            # The layer computes with constants made from its weights.
            layer.finalize_state()
