"""What a platform wants besides the run's folder, copied to where it looks: the model alone, the logs alone.

Vertex AI uploads AIP_MODEL_DIR to the Model Registry, SageMaker packs /opt/ml/model, Azure ML registers an output; none
of them should hold the datasets' tables, checkpoints and reports of a run.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from job import rundir
from job.stages.deliver import patiently
from job.storage import at, join, local_path, transfer
from job.storage.mirror import Mirror
from job.workspace import Workspace

_LAST = ("saved_model.pb",)
"""Without it no reader takes the folder for a model."""


def logs(workspace: Workspace) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which the logs are copied as they grow to where the platform shows them."""
    uri = workspace.platform.logs_uri
    if uri is None or uri == join(workspace.output.uri, rundir.LOGS):
        return contextlib.nullcontext()
    return Mirror(
        workspace.logs_dir,
        at(uri),
        every_s=workspace.config.telemetry.mirror_every_s,
        on_error=lambda error: workspace.console.warn(f"The logs for the platform are copied later: {error}"),
    )


def model(workspace: Workspace) -> None:
    """Copies the proven model to where the platform takes it from; also that of a run that was done before.

    After the done marker, so that a job that is started again finds its work done and only copies.
    """
    uri = workspace.platform.model_uri
    if uri is None or not workspace.cluster.is_chief:
        return
    # Not workspace.bar: status.json says "done" by now.
    with workspace.console.bar("handover", unit="objects") as bar:
        progress = workspace.watched(bar, "handover")
        store = at(uri)
        patiently(workspace, lambda: transfer.push(_exported(workspace), store, last=_LAST, progress=progress))
    workspace.console.info(f"The model alone is at {uri}, where the platform takes it from.", model_uri=uri)


def _exported(workspace: Workspace) -> Path:
    """Returns the exported model's local folder; fetched from the output where the run was done elsewhere."""
    uri = join(workspace.output.uri, rundir.EXPORT, rundir.EXPORT_VERSION)
    if (path := local_path(uri)) is not None:
        return path
    folder = workspace.cache_dir / "handover"
    transfer.pull(at(uri), folder)
    return folder
