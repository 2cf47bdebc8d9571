"""What a run leaves behind: lease and logs while it works; report and done marker at its end."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

from job import lease as leases
from job import rundir
from job.dataset.example import Split, Verdict
from job.dataset.prepare import Dataset
from job.errors import RequirementError, StoreAwayError, TemporaryError
from job.evaluation import pages
from job.evaluation import report as reports
from job.evaluation.report import BadImage, DataSummary, RunFacts, RunReport, Stage
from job.evaluation.winner import Choice
from job.export import card, proof
from job.fence import Fenced
from job.lease import Lease
from job.stages import export
from job.stages.measure import Measured
from job.storage import join
from job.storage.mirror import Mirror
from job.training.study import Study
from job.versions import versions
from job.workspace import Workspace

AWAY_PAUSE_S = 10.0
"""Seconds before finished work is offered again to an output that is away; an offer itself lasts a minute or two."""

CHIEF_POLL_S = 2.0
"""Seconds between two looks for the chief's report."""

MAX_NAMED = 50
"""Bad images that the report names; `dataset.csv` has all."""


def lease(workspace: Workspace) -> Lease:
    """Returns the context in which this job alone writes to the output."""
    stop, console = workspace.stop, workspace.console
    workspace.folder.mkdir(parents=True, exist_ok=True)

    def wait(seconds: float) -> None:
        stop.wait(seconds)
        stop.check("waiting for the output")

    held = Lease(workspace.output, on_lost=stop.give_up, on_wait=console.info, wait=wait)
    workspace.output = Fenced(workspace.output, held.confirm)
    return held


def logs(workspace: Workspace) -> Mirror:
    """Returns the context in which the run's logs are copied to its output as they grow, and once at its end."""
    return Mirror(
        workspace.logs_dir,
        workspace.output,
        rundir.LOGS,
        workspace.config.telemetry.mirror_every_s,
        on_error=lambda error: workspace.console.warn(f"The logs are copied later: {error}"),
    )


def report(
    workspace: Workspace,
    dataset: Dataset,
    trainer: Study,
    choice: Choice,
    measured: Measured,
    found: proof.Proof,
) -> dict[str, Any]:
    """Writes and pushes the export, the reports, the card and, last of all, `report.json`; returns its content."""
    config = workspace.config
    with workspace.timings.stage("push"):
        patiently(workspace, lambda: workspace.publish(rundir.EXPORT, last=(export.MARKER,)))
    facts = RunReport(
        run=RunFacts(
            name=workspace.output.uri.rsplit("/", 1)[-1],
            output_uri=workspace.output.uri,
            data_uri=str(config.data.uri),
            seed=config.train.seed,
            versions=versions(),
            devices=trainer.distribution.describe(),
        ),
        data=_data_summary(dataset),
        recipe=[*trainer.describe(), *trainer.notes],
        choice=choice,
        test=measured.result,
        mistakes=measured.worst,
        stages=[
            Stage(name, seconds, workspace.timings.num_images[name])
            for name, seconds in workspace.timings.seconds.items()
        ],
        proof=found.to_dict(),
        export_uri=join(workspace.output.uri, rundir.EXPORT, rundir.EXPORT_VERSION),
        required_accuracy=config.require.accuracy,
    )
    content = reports.to_json(facts)
    for name, text in {
        rundir.REPORT_TEXT: pages.markdown(facts),
        f"{rundir.REPORT_FOLDER}/index.html": pages.html(facts, measured.pictures),
        rundir.CARD: _card(workspace, trainer, facts),
    }.items():
        patiently(workspace, functools.partial(workspace.write, name, text))
    trainer.telemetry.close()
    return content


def _card(workspace: Workspace, trainer: Study, facts: RunReport) -> str:
    fit = {
        "squash": "squashed",
        "crop": "cropped to the centre square and resized",
        "pad": "padded with black and resized",
    }
    model, px = workspace.config.model, trainer.views.image_px
    return card.model_card(
        facts,
        backbone=f"{trainer.backbone.name} (weights: {model.weights.rsplit('/', 1)[-1]})",
        geometry_text=f"{fit[workspace.config.data.fit]} to {px} x {px} pixels",
    )


def finish(workspace: Workspace, content: dict[str, Any]) -> None:
    """Writes the done marker: from here on the run is finished."""
    workspace.stop.check("push")
    patiently(workspace, lambda: workspace.write(rundir.DONE, json.dumps(content, indent=2)))


def patiently(workspace: Workspace, deliver: Callable[[], object], *, pause_s: float = AWAY_PAUSE_S) -> None:
    """Delivers finished work, again and again while the output is away, for `workspace.away_s` at most.

    Raises:
        StoreAwayError: It did not come back. Says where the work is kept.
        StoppedError: When the job is asked to stop meanwhile.
    """
    started_s = time.monotonic()
    while True:
        try:
            deliver()
            return
        except StoreAwayError as error:
            if time.monotonic() - started_s >= workspace.away_s:
                raise StoreAwayError(
                    f"{workspace.output.uri} did not come back within {workspace.away_s:.0f} s: {error.message}. The "
                    f"finished work is kept in {workspace.folder}.",
                    next_step="Start the same command with the same work_dir when the storage is there again: what is "
                    "finished is only delivered. On another machine it goes on from the last checkpoint that was "
                    "copied.",
                ) from error
            workspace.console.warn(
                f"The output is away; the finished work is kept in {workspace.folder} and offered again: "
                f"{error.message}"
            )
        workspace.stop.wait(pause_s)
        workspace.stop.check("push")


def report_of_chief(workspace: Workspace, lease: str) -> dict[str, Any]:
    """Returns the content of `report.json` once the chief has written it.

    The other workers wait for it, so that they end as the chief does: one that left before would be missing when a
    chief that failed starts again.

    Args:
        lease: The chief's, as it was when all met (`leases.held_as`).

    Raises:
        TemporaryError: When the chief left without a report; also where it has started again since, and waits for all.
    """
    while (content := workspace.report()) is None:
        workspace.stop.check("waiting for the chief's report")
        # Looked at in this order: the lease is given back after the report is written.
        if leases.held_as(workspace.output) != lease and workspace.report() is None:
            raise TemporaryError(
                f"The chief worker ended without a report at {workspace.output.uri}.",
                next_step="Look at the log of worker 0 for the reason, then start all workers again.",
            )
        workspace.stop.wait(CHIEF_POLL_S)
    return content


def check_required(workspace: Workspace, content: dict[str, Any]) -> None:
    """Raises RequirementError when the test accuracy is below `require.accuracy`; the report is pushed by then."""
    required = workspace.config.require.accuracy
    if required is None:
        return
    accuracy = content["test"]["scores"]["accuracy"] if content["test"] else None
    if accuracy is None or accuracy < required:
        raise RequirementError(
            f"The test accuracy is {accuracy}; require.accuracy asks for at least {required}. The model and its report "
            f"are at {workspace.output.uri}.",
            next_step="Look at the worst mistakes in report.md; more images, train.preset=best or a larger "
            "model.backbone may help.",
        )


def _data_summary(dataset: Dataset) -> DataSummary:
    summary = dataset.summary
    bad = [row for row in dataset.rows if row.verdict is not Verdict.OK]
    notes = [summary.split_note, *(f"{count} images: {note}" for note, count in summary.repairs.items())]
    if summary.num_near_duplicates:
        notes.append(f"{summary.num_near_duplicates} images are near-duplicates: they show the same as another file.")
    if summary.left_out:
        counts = " and ".join(f"{count} {split}" for split, count in summary.left_out.items())
        notes.append(
            f"{counts} images are not counted in the evaluation: copies of them, exact or near, are in other splits."
        )
    if summary.num_contradictions:
        notes.append(f"{summary.num_contradictions} images are also there under another label; dataset.csv names them.")
    notes += summary.warnings
    return DataSummary(
        classes=dataset.classes,
        counts={str(split): [summary.classes[name][str(split)] for name in dataset.classes] for split in Split},
        num_images=summary.num_images,
        num_bad=summary.num_bad,
        bad_by_verdict=summary.verdicts,
        bad=[BadImage(row.uri, str(row.verdict), row.reason) for row in bad[:MAX_NAMED]],
        num_duplicates=summary.num_duplicates,
        notes=[note for note in notes if note],
    )
