"""Why the job ends, where a platform shows it to its user."""

from __future__ import annotations

import contextlib
from pathlib import Path

MAX_REASON = 1024
"""Characters that SageMaker shows; Kubernetes cuts after 4,096 bytes."""


def say_why(reason: str, *, root: Path = Path("/")) -> None:
    """Writes why the job ends where a platform would show it to its user, whichever of these places there is.

    Kubernetes makes the file /dev/termination-log in every container (terminationMessagePath); SageMaker reads
    /opt/ml/output/failure. Best effort: the exit code has the last word.
    """
    log, failure = root / "dev" / "termination-log", root / "opt" / "ml" / "output" / "failure"
    for file, is_shown in ((log, log.is_file()), (failure, failure.parent.is_dir())):
        if is_shown:
            with contextlib.suppress(OSError):
                file.write_text(reason[:MAX_REASON], encoding="utf-8")
