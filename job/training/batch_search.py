"""The largest global batch that the memory holds, found by trying: each size in a child process, which may die of it.

A GPU that runs out says so (ResourceExhaustedError), a processor's memory more often ends the process (abort,
segmentation fault, or the kernel's SIGKILL). A child that fitted one batch goes on with the next.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from job.errors import JobError

DOES_NOT_FIT = 3
"""Exit code of a child whose memory was too small."""

LEAST_STEPS_AN_EPOCH = 10
"""No batch is tried that leaves an epoch with fewer steps: nothing is known of learning rates for such a one."""

_OUT_OF_MEMORY = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGKILL, -signal.SIGILL, -signal.SIGTRAP}
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class Spec:
    """What is tried.

    Attributes:
        config: The run's, as `Config.model_dump` gives it.
        backbone_path: Local copy of the user's own .keras file, or None.
        num_train: Training images.
        num_known: Images whose frozen features the run keeps.
    """

    config: dict[str, Any]
    backbone_path: str | None
    num_train: int
    num_known: int
    num_classes: int


def largest(fits: Callable[[int], bool], *, first: int, unit: int, most: int) -> int | None:
    """Returns the largest batch that fits, to an eighth, or None where not even `unit` images do.

    Args:
        fits: Whether a batch does; asked once for each.
        first: Tried first; doubled while that fits, halved while it does not.
        unit: Results are multiples of it, or `first`.
        most: Not exceeded.
    """
    good = bad = min(first, most)
    if fits(good):
        while good == bad < most:
            bad = min(2 * good, most)
            if fits(bad):
                good = bad
    else:
        while good == bad:
            good = bad // 2 // unit * unit
            if not good:
                return None
            if not fits(good):
                bad = good
    while bad - good > (grain := max(unit, good // 8 // unit * unit)):
        middle = good + max((bad - good) // 2 // grain * grain, grain)
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


class Trials:
    """Says of a batch whether the run's own steps fit with it, by making some of each phase in a child process."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._child: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self.tried: dict[int, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._said.close()

    def __call__(self, batch: int) -> bool:
        """Returns whether the batch fits.

        Raises:
            JobError: When a trial failed for another reason. Shows what it said last.
        """
        if self._child is None:
            self._child = self._started()
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(f"{batch}\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._child = None
            self._demand_out_of_memory(batch, child)
        self.tried[batch] = bool(answer)
        return bool(answer)

    def _started(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "job.training.batch_trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            # A Ctrl-C is for the job: a trial that dies of it would look as if it did not fit.
            start_new_session=True,
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(asdict(self._spec)) + "\n")
        return child

    def _demand_out_of_memory(self, batch: int, child: subprocess.Popen[str]) -> None:
        child.communicate()
        if child.returncode == DOES_NOT_FIT or child.returncode in _OUT_OF_MEMORY:
            return
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")[-_SHOWN_CHARACTERS:]
        raise JobError(
            f"train.batch is auto, but the trial of a batch of {batch} ended with {child.returncode}, which is not for "
            f"want of memory:\n{said}",
            next_step="Set train.batch to a number, or leave it out.",
        )
