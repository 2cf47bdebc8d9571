"""One flat network: pixels → preprocessing → backbone → pooled features → dropout → logits.

Flat, because Grad-CAM, the cut into trunk and top and freezing by layer all need to see every layer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from job.errors import ConfigError
from job.model import graph, preprocessing
from job.model import weights as pretrained
from job.model.backbones import Backbone
from job.model.cut import FEATURES, LOGITS
from job.model.freezing import freeze, layer_groups

__all__ = ["build", "freeze", "layer_groups"]


def build(
    backbone: Backbone,
    *,
    weights: str | Path,
    image_px: int,
    num_classes: int,
    dropout: float,
    seed: int,
    policy: str = "float32",
) -> Any:
    """Returns a functional model from float32 [B, image_px, image_px, 3], RGB, 0..255, to logits float32 [B, K].

    The same arguments give the same initial weights and dropout masks. The head starts at zero, so that the
    first steps leave the backbone alone. Source: BiT, section 3.3 (arXiv:1912.11370).

    Args:
        backbone: A row of `backbones.BACKBONES`, or of `custom.describe`.
        weights: "imagenet", "none", or a local file of the backbone's weights. For a custom backbone
            "imagenet" means those in its file.
        image_px: Height and width, pixels.
        num_classes: K.
        dropout: Share of the features dropped in front of the head, 0 up to 1.
        seed: Of every random number.
        policy: float32, bfloat16 or float16: the dtype of the backbone's activations. Variables, preprocessing,
            features and logits are float32.

    Raises:
        ConfigError: When weights, size or file do not fit the backbone.
        InputMissingError, TemporaryError: When the weights cannot be had.
    """
    _check_size(backbone, image_px)
    policy = policy if policy.startswith("mixed_") or policy == "float32" else f"mixed_{policy}"
    with _settings(seed, policy):
        pixels = keras.Input((image_px, image_px, 3), dtype="float32", name="pixels")
        pooled = _backbone(backbone, weights, preprocessing.apply(backbone, pixels), image_px, policy)
        features = keras.layers.Identity(name=FEATURES, dtype="float32")(pooled)
        dropped = keras.layers.Dropout(dropout, seed=seed, name="dropout", dtype="float32")(features)
        logits = keras.layers.Dense(num_classes, kernel_initializer="zeros", name=LOGITS, dtype="float32")(dropped)
        return keras.Model(pixels, logits, name="classifier")


def _backbone(backbone: Backbone, weights: str | Path, tensor: Any, image_px: int, policy: str) -> Any:
    """Returns the pooled features of the backbone on `tensor`, its weights loaded."""
    if backbone.path is not None:
        return _custom(backbone, backbone.path, weights, tensor, policy)
    has_nested_models = backbone.family == "convnext"
    network = pretrained.construct(backbone, image_px, tensor=None if has_nested_models else tensor)
    if weights != pretrained.NONE:
        alone = network if has_nested_models else keras.Model(tensor, network.outputs[0])
        pretrained.load(alone, backbone, weights, image_px)
    if backbone.family == "efficientnet":
        preprocessing.complete_efficientnet(network)
    return graph.relay(network, tensor, policy) if has_nested_models else network.outputs[0]


def _custom(backbone: Backbone, path: Path, weights: str | Path, tensor: Any, policy: str) -> Any:
    network = _load_custom(path, like=tensor)
    if isinstance(weights, Path):
        pretrained.load_file(network, weights, backbone.name)
    output = graph.relay(network, tensor, policy, has_weights=weights != pretrained.NONE)
    if len(output.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="pooling", dtype="float32")(output)
    return output


def _load_custom(path: Path, *, like: Any) -> Any:
    """Returns the model in a .keras file, after the checks that it can be a backbone on `like` [B, H, W, 3]."""
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError) as error:
        raise ConfigError(
            f"model.backbone: {str(path)!r} cannot be loaded in safe mode: {' '.join(str(error).split())[:400]} "
            "Allowed are Keras's own layers, without Lambda layers and custom classes.",
            next_step="Rebuild the backbone from Keras's own layers and save it again.",
        ) from error
    fault = _fault(network, like)
    if fault:
        raise ConfigError(
            f"model.backbone: {str(path)!r} {fault}. Allowed is a functional or sequential model from one image "
            "[B, H, W, 3] to one tensor [B, D] or [B, H, W, C].",
            next_step="Save the part of the model that gives the features.",
        )
    return network


def _fault(network: Any, like: Any) -> str:
    if not graph.is_known(network):
        return f"holds a {type(network).__name__}, which is not functional"
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        return f"has {len(network.inputs)} inputs and {len(network.outputs)} outputs"
    takes, gives = network.inputs[0].shape, network.outputs[0].shape
    if len(takes) != 4 or any(size not in (None, have) for size, have in zip(takes[1:], like.shape[1:], strict=True)):
        return f"takes {takes}, but data.image_px makes it {tuple(like.shape)}"
    if len(gives) not in (2, 4) or gives[-1] is None:
        return f"gives {gives}"
    return ""


def _check_size(backbone: Backbone, image_px: int) -> None:
    if image_px < backbone.min_px:
        raise ConfigError(
            f"data.image_px: {image_px} is too small for {backbone.name}; allowed is {backbone.min_px} or more "
            f"(native: {backbone.native_px}).",
            next_step=f"Set data.image_px to at least {backbone.min_px}, or choose a MobileNet for small images.",
        )


@contextmanager
def _settings(seed: int, policy: str) -> Iterator[None]:
    """Sets what Keras takes from global state while it builds layers, and puts it back.

    Initializers without a seed, as all of `keras.applications` has, draw theirs from Python's `random`.
    """
    state, before = random.getstate(), keras.config.dtype_policy()
    random.seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(before)
