"""Finished work is offered again while the output is away, and only then."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from job import config as configs
from job.console import JsonConsole
from job.errors import AccessError, JobError, LeaseHeldError, StoppedError, StoreAwayError, TemporaryError
from job.interruption import Stop
from job.platforms import Platform
from job.stages.deliver import patiently
from job.workspace import Workspace


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def workspace(tmp_path: Path, said: io.StringIO) -> Workspace:
    settings = (f"data.uri={tmp_path}", f"output={tmp_path}/run", f"work_dir={tmp_path}/work")
    return Workspace.open(configs.load(None, settings), Platform("laptop"), JsonConsole(said), Stop())


class Offer:
    """Fails as told, one error an offer, then succeeds."""

    def __init__(self, *errors: JobError) -> None:
        self._errors, self.num_made = list(errors), 0

    def __call__(self) -> None:
        self.num_made += 1
        if self._errors:
            raise self._errors.pop(0)


def test_what_comes_back_in_time_is_delivered_to(workspace: Workspace, said: io.StringIO) -> None:
    offer = Offer(StoreAwayError("no answer"), StoreAwayError("no answer"))
    patiently(workspace, offer, pause_s=0.0)
    assert offer.num_made == 3
    assert said.getvalue().count(f"kept in {workspace.folder}") == 2


def test_what_stays_away_ends_with_75_and_says_where_the_work_is(workspace: Workspace) -> None:
    workspace.away_s = 0.0
    offer = Offer(StoreAwayError("no answer"))
    with pytest.raises(StoreAwayError, match=f"no answer. The finished work is kept in {workspace.folder}") as caught:
        patiently(workspace, offer, pause_s=0.0)
    assert (caught.value.exit_code, offer.num_made) == (75, 1)
    assert "same work_dir" in caught.value.next_step


@pytest.mark.parametrize("error", [LeaseHeldError("taken over"), AccessError("no right"), TemporaryError("full")])
def test_what_waiting_does_not_help_is_raised_at_once(workspace: Workspace, error: JobError) -> None:
    offer = Offer(error)
    with pytest.raises(type(error)):
        patiently(workspace, offer)
    assert offer.num_made == 1


def test_a_job_that_is_asked_to_stop_waits_no_longer(workspace: Workspace) -> None:
    offer = Offer(*[StoreAwayError("no answer")] * 9)
    workspace.stop.request()
    workspace.stop.finish()
    with pytest.raises(StoppedError):
        patiently(workspace, offer)
    assert offer.num_made == 1
