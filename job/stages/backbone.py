"""The backbone that the config names: a row of the table, or the user's own .keras file."""

from __future__ import annotations

from pathlib import Path

from job.model import backbones, custom, weights
from job.model.backbones import Backbone
from job.workspace import Workspace


def resolve(workspace: Workspace) -> Backbone:
    """Returns the row; a .keras file is fetched first.

    Raises:
        ConfigError: When there is no such row, or the image size is not what the backbone takes.
    """
    name = workspace.config.model.backbone
    if not name.endswith(".keras"):
        return backbones.get(name)
    return custom.describe(weights.fetch(name, None, _folder(workspace)))


def pretrained(workspace: Workspace) -> str | Path:
    """Returns "imagenet", "none", or the local path of the weights file, fetched and checked."""
    model = workspace.config.model
    if model.weights in ("imagenet", "none"):
        return model.weights
    return weights.fetch(model.weights, model.weights_sha256, _folder(workspace))


def _folder(workspace: Workspace) -> Path:
    return workspace.data_dir.parent.parent / "weights"
