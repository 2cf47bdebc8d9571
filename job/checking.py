"""`finetune check`: everything that can be known to be wrong before a GPU is paid for."""

from __future__ import annotations

from pathlib import Path

from job.config import Config
from job.console import Console
from job.errors import JobError
from job.interruption import Stop
from job.model import backbones
from job.platforms import Platform
from job.workspace import Workspace

PROBE = ".finetune-check"
"""The object that is written to the output and removed again."""


def check(config: Config, platform: Platform, console: Console, stop: Stop, *, with_data: bool) -> None:
    """Says what was checked; trains nothing.

    Raises:
        JobError: The first thing that is wrong.
    """
    if not config.model.backbone.endswith(".keras"):
        row = backbones.get(config.model.backbone)
        px = config.data.image_px or row.native_px
        console.info(f"Config: fine. {row.name}, {row.million_parameters:.1f} M parameters, at {px} px.")
    if not with_data:
        return
    workspace = Workspace.open(config, platform, console, stop, is_run=False)
    if workspace.finished_report() is not None:
        console.info(f"Output: {workspace.output.uri} holds the finished run of this config; `train` shows its report.")
    _check_output(workspace)
    console.info(f"Output: {workspace.output.uri} can be written to.")
    # Only here, as the survey's room is reached by way of the model's, which imports Keras.
    from job.stages import backbone, prepare, pull

    backbone.resolve(workspace)
    weights = backbone.pretrained(workspace)
    if isinstance(weights, Path):
        console.info(f"Weights: {config.model.weights} is there, {weights.stat().st_size / 1e6:.1f} MB.")
    path = pull.dataset(workspace)
    found = prepare.survey(workspace, path, pack=False)
    for name in found.classes:
        counts = found.summary.classes[name]
        console.info(f"  {name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for note, count in found.summary.repairs.items():
        console.info(f"  {count} images: {note}")
    console.info("Everything is ready for `finetune train`.")


def _check_output(workspace: Workspace) -> None:
    workspace.output.write(PROBE, b"")
    try:
        workspace.output.delete(PROBE)
    except JobError:
        # Allowed to write but not to delete: enough for the job, which would only keep more checkpoints.
        workspace.console.warn(f"{workspace.output.uri} does not allow deleting: old checkpoints stay.")
