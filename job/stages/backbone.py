"""The backbone that the config names: a row of the table, or the user's own .keras file."""

from __future__ import annotations

import json
from pathlib import Path

from job import rundir
from job.errors import ConfigError
from job.masking import masked
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


def remember(workspace: Workspace) -> None:
    """Keeps with the run the SHA-256 of every file that its model was built from.

    To be called once they are loaded: a file that does not fit the backbone may be replaced and the run go on. From
    then on what is trained lies on top of these numbers (`Study.apply`), and every later start is held to them.

    Raises:
        ConfigError: When a file is not what it was, or was exchanged since it was looked at.
    """
    for uri, path in workspace.fetched.items():
        _demand_same(workspace, uri, path)
    if workspace.fetched and workspace.cluster.is_chief and not _remembered(workspace):
        found = {masked(uri): weights.sha256_of(path) for uri, path in workspace.fetched.items()}
        workspace.write(rundir.WEIGHTS, json.dumps(found, indent=2) + "\n")


def _fetched(workspace: Workspace, uri: str, sha256: str | None) -> Path:
    """Returns the local file, looked for once a run: what was checked at its start is what is loaded later."""
    if uri not in workspace.fetched:
        folder = workspace.data_dir.parent.parent / "weights"
        path = weights.fetch(uri, sha256, folder)
        if workspace.is_run:
            _demand_same(workspace, uri, path)
        workspace.fetched[uri] = path
    return workspace.fetched[uri]


def _demand_same(workspace: Workspace, uri: str, path: Path) -> None:
    expected = _remembered(workspace).get(masked(uri))
    if expected and (received := weights.sha256_of(path)) != expected:
        raise ConfigError(
            f"{uri} has the SHA-256 {received}, but the run at {workspace.output.uri} began with {expected}; what it "
            "trained so far does not fit other weights.",
            next_step="Put the first file back, or choose another --output for a run that begins with this one.",
        )


def _remembered(workspace: Workspace) -> dict[str, str]:
    """Returns SHA-256 by URI, empty before the first model was built."""
    if workspace.output.stat(rundir.WEIGHTS) is None:
        return {}
    found: dict[str, str] = json.loads(workspace.output.read(rundir.WEIGHTS))
    return found
