"""What obstore raises, in the job's own errors. It often says no more than a text, so the text is read."""

from __future__ import annotations

import re
from pathlib import Path

from obstore import exceptions as foreign

from job.errors import AccessError, ConfigError, DatasetError, JobError
from job.storage import disk
from job.storage.retry import PassingError, from_status

_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CREDENTIALS = re.compile(
    r"credential|access key|account must|/latest/api/token|169\.254\.|identity|token", re.IGNORECASE
)


def translate(error: Exception, uri: str, login: str) -> Exception:
    """Returns the job's error, or PassingError, for whatever obstore raised about `uri`."""
    said = str(error).partition("\n\nDebug source")[0]
    status = _STATUS.search(said)
    if isinstance(error, foreign.PermissionDeniedError):
        return from_status(403, uri, said, login=login)
    if isinstance(error, foreign.UnauthenticatedError):
        return from_status(401, uri, said, login=login)
    if isinstance(error, foreign.InvalidPathError):
        return DatasetError(
            f"an object below {uri} has a name that is no plain path: {said}",
            next_step="Rename or delete that object, then start the job again.",
        )
    if isinstance(error, (foreign.AlreadyExistsError, foreign.PreconditionError)):
        return from_status(412, uri, said, login=login)
    if isinstance(error, FileNotFoundError):
        return from_status(404, uri, said, login=login)
    if status and int(status[1]) in (301, 307):
        return ConfigError(
            f"{uri} is in another region (HTTP {status[1]})", next_step="Set AWS_REGION to the bucket's."
        )
    if status:
        return from_status(int(status[1]), uri, said, login=login)
    if _CREDENTIALS.search(said):
        return AccessError(f"no usable credentials for {uri}: {said}", next_step=login)
    if isinstance(error, foreign.GenericError):
        return PassingError(said)
    if isinstance(error, OSError):
        return disk.translate(error, uri, Path.cwd())
    return JobError(f"{uri}: unforeseen {type(error).__name__}: {said}")


def unusable(uri: str, error: Exception, login: str) -> JobError:
    """Returns the error for a client that could not even be made: settings or credentials are missing."""
    failure = translate(error, uri, login)
    if isinstance(failure, JobError) and type(failure) is not JobError:
        return failure
    return ConfigError(f"{uri} cannot be used: {str(error).partition(chr(10))[0]}", next_step=login)
