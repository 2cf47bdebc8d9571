"""However a run ends, its output says how far it came and why."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from job import config as configs
from job import rundir
from job.console import JsonConsole
from job.errors import DatasetError, DivergedError, JobError, LeaseHeldError, StoppedError, TemporaryError
from job.fence import Fenced
from job.interruption import Stop
from job.platforms import Platform
from job.stages import ending
from job.storage.local import LocalStore
from job.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    settings = configs.load(values={"data.uri": "data", "output": f"{tmp_path}/run", "work_dir": f"{tmp_path}/work"})
    found = Workspace.open(settings, Platform("laptop"), JsonConsole(io.StringIO()), Stop())
    with found.timings.stage("survey"), found.bar("survey", unit="images") as bar:
        bar.update(7, 10)
    found.status.settle()
    return found


def ends(workspace: Workspace, error: Exception) -> dict[str, Any]:
    with pytest.raises(type(error)), ending.told(workspace):
        raise error
    status: dict[str, Any] = json.loads(workspace.output.read(rundir.STATUS))
    return status


def test_a_failure_names_reason_remedy_and_how_far_the_run_came(workspace: Workspace) -> None:
    folder = workspace.folder / rundir.CHECKPOINTS / "00000031-2-0"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(
        json.dumps({"phase": "finetune", "step": 7, "num_steps": {"probe": 0, "head": 24}})
    )
    status = ends(workspace, DatasetError("6 % of the images are bad.", next_step="Mend them."))
    assert (status["state"], status["exit_code"], status["error"]) == ("failed", 65, "DatasetError")
    assert (status["message"], status["next_step"]) == ("6 % of the images are bad.", "Mend them.")
    assert (status["stage"], status["done"], status["total"]) == ("survey", 7, 10)
    assert (status["candidates"], status["phase"], status["step"]) == ({"probe": 0, "head": 24}, "finetune", 7)
    assert set(status["seconds"]) == {"survey"}
    report = workspace.output.read(rundir.REPORT_TEXT).decode()
    for part in ("failed (exit 65)", "6 % of the images are bad.", "Mend them.", "head: trained, 24 steps"):
        assert part in report
    assert "finetune: saved at step 7" in report
    assert workspace.output.stat(rundir.DONE) is None


def test_a_stop_is_no_failure(workspace: Workspace) -> None:
    status = ends(workspace, StoppedError("Stopped by a signal during survey.", next_step="Start it again."))
    assert (status["state"], status["exit_code"]) == ("stopped", 143)
    assert "was stopped" in workspace.output.read(rundir.REPORT_TEXT).decode()


def test_the_images_of_a_batch_that_diverged_are_all_named(workspace: Workspace) -> None:
    names = [f"rose/{number}.jpg" for number in range(20)]
    status = ends(workspace, DivergedError("The training diverged.", images=names))
    assert (status["exit_code"], status["images"]) == (80, names)
    report = workspace.output.read(rundir.REPORT_TEXT).decode()
    assert all(name in report for name in names)


def test_what_nobody_foresaw_is_told_too(workspace: Workspace) -> None:
    status = ends(workspace, ZeroDivisionError("division by zero"))
    assert (status["exit_code"], status["error"], status["message"]) == (1, "ZeroDivisionError", "division by zero")


def test_a_run_that_ends_well_is_done(workspace: Workspace) -> None:
    with ending.told(workspace):
        pass
    assert json.loads(workspace.output.read(rundir.STATUS))["state"] == "done"
    assert workspace.output.stat(rundir.REPORT_TEXT) is None


def test_a_job_that_was_taken_over_tells_nothing(workspace: Workspace) -> None:
    lost = LeaseHeldError("Another job took over.")

    def confirm() -> None:
        raise lost

    before = workspace.output.read(rundir.STATUS)
    workspace.output = Fenced(workspace.output, confirm)
    assert ends(workspace, lost) == json.loads(before)
    assert workspace.output.stat(rundir.REPORT_TEXT) is None


@pytest.mark.parametrize("is_hanging", [True, False])
def test_an_output_that_is_away_changes_neither_the_error_nor_holds_it_up(
    is_hanging: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back = threading.Event()

    class Away(LocalStore):
        def write(self, *args: Any, **kwargs: Any) -> Any:
            if is_hanging:
                is_back.wait()
            raise TemporaryError("the bucket is away")

    monkeypatch.setattr(ending, "LONGEST_S", 0.05)
    workspace.output = Away(workspace.output.uri, Path(workspace.output.uri))
    with pytest.raises(JobError, match="the disk is full"), ending.told(workspace):
        raise TemporaryError("the disk is full")
    is_back.set()
