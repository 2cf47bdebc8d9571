"""Every way the job can fail, each with its exit code.

    JobError                    1   anything unforeseen
    ├── UsageError              2   the command line is wrong
    ├── DatasetError           65   the images or labels cannot be used
    ├── InputMissingError      66   a bucket, folder, file or model is not there
    ├── TemporaryError         75   may pass by itself: start the job again
    │   ├── LeaseHeldError     75   another job is writing to this output
    │   └── StoreAwayError     75   the storage service failed for as long as it was tried
    ├── AccessError            77   no permission
    ├── ConfigError            78   a setting is wrong
    ├── DivergedError          80   the loss or a gradient is not finite
    ├── ProofError             81   the exported model differs from the evaluated one
    ├── RequirementError       82   the result is below what `require` asks for
    └── StoppedError          143   stopped by SIGTERM or SIGINT after saving

Codes follow `sysexits.h` where it has a word. 75 and 143 are worth another try, 1 counts against
the back-off, the others fail a Kubernetes Job at once (`k8s/base/job.yaml`, podFailurePolicy).

A message says what is wrong, what was received and what is allowed; `next_step` says what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from job.masking import masked


class JobError(Exception):
    """The root of all errors that a user is meant to read. Its text holds no secret, whatever went into it.

    Args:
        message: What is wrong, what was received, what is allowed.
        next_step: What the user can do about it, an imperative sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        self.message = masked(message)
        self.next_step = masked(next_step)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  Next: {self.next_step}" if self.next_step else self.message


class UsageError(JobError):
    exit_code = 2


class DatasetError(JobError):
    exit_code = 65


class InputMissingError(JobError):
    exit_code = 66


class TemporaryError(JobError):
    exit_code = 75


class LeaseHeldError(TemporaryError):
    pass


class StoreAwayError(TemporaryError):
    pass


class AccessError(JobError):
    exit_code = 77


class ConfigError(JobError):
    exit_code = 78


class DivergedError(JobError):
    """A loss or gradient that is not finite; `images` are all those of its batch."""

    exit_code = 80

    def __init__(self, message: str, *, images: Sequence[str] = (), next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.images = tuple(images)


class ProofError(JobError):
    exit_code = 81


class RequirementError(JobError):
    exit_code = 82


class StoppedError(JobError):
    exit_code = 143


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the closest allowed word, or "" where none is close."""
    found = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
