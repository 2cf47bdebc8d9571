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
    return custom.describe(_fetched(workspace, name, None))


def pretrained(workspace: Workspace) -> str | Path:
    """Returns "imagenet", "none", or the local path of the weights file, fetched and checked."""
    model = workspace.config.model
    if model.weights in ("imagenet", "none"):
        return model.weights
    return _fetched(workspace, model.weights, model.weights_sha256)


def _fetched(workspace: Workspace, uri: str, sha256: str | None) -> Path:
    """Returns the local file, looked for once a run: what was checked at its start is what is loaded later."""
    if uri not in workspace.fetched:
        folder = workspace.data_dir.parent.parent / "weights"
        workspace.fetched[uri] = weights.fetch(uri, sha256, folder)
    return workspace.fetched[uri]
