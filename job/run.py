"""The job, as one story.

config → platform → already done? → pull → survey + split → pack → probe → head → fine-tune
→ pick the winner → evaluate → export → prove → report → push → done marker
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from job.config import Config
from job.console import Console
from job.interruption import Stop
from job.platforms import Platform
from job.stages import deliver, ending, export, handover, measure, prepare, together, train
from job.versions import versions
from job.workspace import Workspace


def run(config: Config, platform: Platform, console: Console, stop: Stop) -> dict[str, Any]:
    """Runs the job from wherever it stands to its end; a job that is done is only read.

    Returns:
        The content of `report.json`.

    Raises:
        JobError: Whatever ended it; its `exit_code` is the job's.
    """
    workspace = Workspace.open(config, platform, console, stop)
    report = workspace.finished_report()
    if report is None:
        report = _lead(workspace) if workspace.cluster.is_chief else _follow(workspace)
    handover.model(workspace)
    deliver.check_required(workspace, report)
    return report


def _lead(workspace: Workspace) -> dict[str, Any]:
    """The whole story: what the chief of several machines does, and a machine by itself."""
    with deliver.lease(workspace), ending.told(workspace):
        workspace.begin(versions())
        with deliver.logs(workspace), handover.logs(workspace), together.machines(workspace) as machines:
            dataset = prepare.dataset(workspace, machines.share)
            trainer = train.trainer(workspace, machines, dataset)
            candidates = trainer.run()
            choice = measure.winner(workspace, dataset, trainer, candidates)
            measured = measure.on_test_split(workspace, dataset, trainer, choice)
            proof = export.proven(workspace, dataset, trainer, choice)
            report = deliver.report(workspace, dataset, trainer, choice, measured, proof)
        deliver.finish(workspace, report)
    return report


def _follow(workspace: Workspace) -> dict[str, Any]:
    """What every other machine does: its share of everything, and it writes nothing."""
    lease = ""
    with suppress(together.FinishedWithoutError), together.machines(workspace) as machines:
        dataset = prepare.dataset(workspace, machines.share)
        trainer = train.trainer(workspace, machines, dataset)
        measure.along(workspace, dataset, trainer, trainer.run())
        lease = machines.lease
    return deliver.report_of_chief(workspace, lease)
