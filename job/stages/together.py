"""The machines of a run: they meet when the first of them needs the others, and when one is lost all leave.

That is after each has looked at its share of the data, so that a machine that was lost meanwhile is waited for as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from job.cluster import rendezvous
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


class Machines:
    """The machines of one run, this one among them; or this one by itself."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @functools.cached_property
    def distribution(self) -> Distribution:
        """What they train on; the first call waits for all of them.

        Raises:
            TemporaryError: When some did not come within `train.start_timeout_s`. Names them.
        """
        workspace = self._workspace
        if workspace.cluster.num_workers > 1:
            self._meet()
        made = distributions.make(workspace.config.train, workspace.cluster)
        if made.num_workers > 1:
            workspace.stop.install()
        return made

    @property
    def share(self) -> Share | None:
        """This machine's part of preparing the data; None where it is alone."""
        cluster = self._workspace.cluster
        if cluster.num_workers < 2:
            return None
        return Share(cluster.worker, cluster.num_workers, lambda mine: self.distribution.gather(mine))

    def _meet(self) -> None:
        workspace, stop = self._workspace, self._workspace.stop

        def pause(seconds: float) -> None:
            stop.wait(seconds)
            stop.check("waiting for the other workers")

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
    try:
        yield Machines(workspace)
    except LOST as error:
        if num_workers == 1:
            raise
        reason = error.message.splitlines()[0][:200] if error.message else type(error).__name__
        raise TemporaryError(
            f"Another worker of the {num_workers} was lost ({reason}).",
            next_step="Start all workers again: they continue from the last checkpoint.",
        ) from error
