"""However a run ends: how far it came and why, at its output, for whoever finds it there.

Best effort and bounded in time: the grace period goes on running, and a bucket that is away is no news any more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from job import rundir
from job.errors import DivergedError, JobError, StoppedError
from job.workspace import Workspace

LONGEST_S = 8.0
"""Seconds that the telling may take: a third of the usual grace period."""


@contextmanager
def told(workspace: Workspace) -> Iterator[None]:
    """Returns the context whose end, if it is an error, is written to `status.json` and `report.md`."""
    try:
        yield
    except Exception as error:
        # A thread that is still writing then ends with the process.
        thread = threading.Thread(target=_tell, args=(workspace, error), name="ending", daemon=True)
        thread.start()
        thread.join(LONGEST_S)
        raise
    workspace.status.end({"state": "done"})


def _tell(workspace: Workspace, error: Exception) -> None:
    facts = facts_of(workspace, error)
    # The run's own error is what counts; a second one says nothing new.
    with suppress(JobError, OSError):
        workspace.status.end(facts)
        workspace.write(rundir.REPORT_TEXT, markdown(workspace.output.uri, facts))


def facts_of(workspace: Workspace, error: Exception) -> dict[str, Any]:
    """Returns how far the run came and why it ended, for `status.json`.

    Keys: state ("stopped" where the same command goes on, else "failed"), exit_code, error, message, next_step,
    images (of a batch that diverged), candidates (those trained so far, with their steps), phase and step (under way),
    seconds (by stage).
    """
    exit_code = error.exit_code if isinstance(error, JobError) else 1
    facts: dict[str, Any] = {
        "state": "stopped" if isinstance(error, StoppedError) else "failed",
        "exit_code": exit_code,
        "error": type(error).__name__,
        "message": error.message if isinstance(error, JobError) else str(error),
        "next_step": error.next_step if isinstance(error, JobError) else "",
        "images": list(error.images) if isinstance(error, DivergedError) else [],
        "seconds": {name: round(seconds, 1) for name, seconds in workspace.timings.seconds.items()},
    }
    progress = _progress(workspace)
    facts["candidates"] = progress.get("num_steps", {})
    if progress.get("phase"):
        facts |= {"phase": progress["phase"], "step": progress["step"]}
    return facts


def markdown(output_uri: str, facts: dict[str, Any]) -> str:
    """Returns the `report.md` of a run that is not done."""
    heading = "was stopped" if facts["state"] == "stopped" else f"failed (exit {facts['exit_code']})"
    lines = [f"# {output_uri} {heading}", "", facts["message"], ""]
    if facts["next_step"]:
        lines += [f"**Next:** {facts['next_step']}", ""]
    lines += ["## How far it came", ""]
    lines += [f"* {name}: trained, {steps} steps" for name, steps in facts["candidates"].items()]
    if "phase" in facts:
        lines += [f"* {facts['phase']}: saved at step {facts['step']}"]
    lines += ["", "| stage | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in facts["seconds"].items()]
    if facts["images"]:
        lines += ["", "## Images of the last batch", "", *(f"* {name}" for name in facts["images"])]
    return "\n".join(lines) + "\n"


def _progress(workspace: Workspace) -> dict[str, Any]:
    """Returns the newest local checkpoint's `progress.json`; nothing where there is none."""
    found = sorted((workspace.folder / rundir.CHECKPOINTS).glob("[0-9]*/progress.json"))
    progress: dict[str, Any] = json.loads(found[-1].read_text()) if found else {}
    return progress
