"""The machines of a run: they meet when the first of them needs the others, and when one is lost all leave.

That is after each has looked at its share of the data, so that a machine that was lost meanwhile is waited for as well;
for TFRecord shards it is before, as their records have to be counted: there they keep watch on each other meanwhile.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from job import lease as leases
from job.cluster import rendezvous
from job.cluster.attendance import START_AGAIN, Attendance
from job.dataset.shares import Share
from job.errors import TemporaryError
from job.training import distribution as distributions
from job.training.distribution import Distribution
from job.workspace import Workspace

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    # Where the network is cut, whoever is cut off from the chief gets no answer to its heartbeats.
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow says of a worker that is gone."""


LOOK_S = 5.0
"""Seconds between two looks for a report, while a worker waits for the chief."""


class FinishedWithoutError(Exception):
    """The run came to its end while this worker waited to take part: it was lost when nobody needed it any more."""


class Machines:
    """The machines of one run, this one among them; or this one by itself.

    Attributes:
        lease: The chief's, as it was when they met.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.lease = ""
        self._attendance: Attendance | None = None

    @functools.cached_property
    def distribution(self) -> Distribution:
        """What they train on; the first call waits for all of them.

        Raises:
            TemporaryError: When some did not come within `train.start_timeout_s`. Names them.
            FinishedWithoutError: When the chief wrote its report meanwhile.
        """
        workspace = self._workspace
        if workspace.cluster.num_workers > 1:
            self._meet()
            self.lease = leases.held_as(workspace.output)
        made = distributions.make(workspace.config.train, workspace.cluster)
        if made.num_workers > 1:
            workspace.stop.install()
            self._attendance = Attendance(workspace.cluster, made.from_chief)
        return made

    @property
    def share(self) -> Share | None:
        """This machine's part of preparing the data; None where it is alone."""
        cluster = self._workspace.cluster
        if cluster.num_workers < 2:
            return None
        return Share(cluster.worker, cluster.num_workers, lambda mine: self.distribution.gather(mine), self._look)

    def close(self) -> None:
        if self._attendance is not None:
            self._attendance.close()

    def _look(self) -> None:
        """Raises where one of those who met is lost; nobody is missed before they meet."""
        if self._attendance is not None:
            self._attendance.demand()

    def _meet(self) -> None:
        workspace, stop = self._workspace, self._workspace.stop
        looked_s = time.monotonic()

        def pause(seconds: float) -> None:
            nonlocal looked_s
            stop.wait(seconds)
            stop.check("waiting for the other workers")
            if not workspace.cluster.is_chief and time.monotonic() - looked_s >= LOOK_S:
                looked_s = time.monotonic()
                if workspace.report() is not None:
                    raise FinishedWithoutError

        with workspace.timings.stage("meet"):
            rendezvous.meet(
                workspace.cluster, workspace.config.train.start_timeout_s, pause=pause, say=workspace.console.info
            )


@contextmanager
def machines(workspace: Workspace) -> Iterator[Machines]:
    """Gives the machines; turns what TensorFlow says when another one is gone into the error to start again with.

    The others cannot go on without it (TensorFlow restores no collective), so all leave and all start again.
    """
    num_workers = workspace.cluster.num_workers
    machines = Machines(workspace)
    try:
        yield machines
    except LOST as error:
        if num_workers == 1:
            raise
        reason = error.message.splitlines()[0][:200] if error.message else type(error).__name__
        raise TemporaryError(
            f"Another worker of the {num_workers} was lost ({reason}).",
            next_step=START_AGAIN,
        ) from error
    finally:
        machines.close()
