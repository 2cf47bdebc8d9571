"""The row of a user's own backbone, read from the description inside its .keras file. No TensorFlow here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from job.errors import ConfigError, InputMissingError
from job.model.backbones import Backbone, Norm, Preprocessing


def describe(path: Path) -> Backbone:
    """Returns the row of a user's own backbone.

    It takes RGB 0..255 as it is (preprocessing belongs inside the file) and returns features [B, D] or
    [B, H, W, C]. Every place where the graph narrows to one tensor counts as the end of a block.

    Args:
        path: A local `.keras` file. Only its description is read here; `classifier.build` loads it.

    Raises:
        InputMissingError: When there is no such file.
        ConfigError: When it is not a `.keras` file of a model.
    """
    layers = _described_layers(path)
    shapes = [layer["config"].get("batch_shape") for layer in layers if layer.get("class_name") == "InputLayer"]
    shape = shapes[0] if shapes else None
    height = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
    kinds = {layer.get("class_name") for layer in layers}
    return Backbone(
        path.name,
        "custom",
        "",
        native_px=height or 224,
        min_px=height or 1,
        preprocessing=Preprocessing.INSIDE,
        norm=Norm.BATCH if "BatchNormalization" in kinds else Norm.NONE,
        block_pattern=r".+",
        million_parameters=0.0,
        finetune_learning_rate=5e-5,
        finetune_optimizer="adamw",
        weight_decay=1e-4,
        layer_decay=0.85,
        dropout=0.2,
        path=path,
    )


def _described_layers(path: Path) -> list[dict[str, Any]]:
    """Returns the configs of all layers of a `.keras` file, nested models opened up, input side first."""
    try:
        with zipfile.ZipFile(path) as archive:
            model = json.loads(archive.read("config.json"))
        return list(_flat(model["config"]["layers"]))
    except FileNotFoundError as error:
        raise InputMissingError(
            f"model.backbone: there is no file {str(path)!r}.", next_step="Check the path of the .keras file."
        ) from error
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model.backbone: {str(path)!r} is not a .keras file of a functional or sequential model: {error!r}.",
            next_step="Save the backbone with `model.save('backbone.keras')` from Keras 3.",
        ) from error


def _flat(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for layer in layers:
        found.append(layer)
        found += _flat(layer.get("config", {}).get("layers", []))
    return found
