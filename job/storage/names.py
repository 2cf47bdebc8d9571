"""Object names as file names: which are refused, and which cannot exist side by side on a disk."""

from __future__ import annotations

import re
from collections.abc import Iterable

from job.errors import DatasetError

RESERVED_PREFIX = ".finetune-"
"""Base names of temporary and lock files; never listed, never an object."""


def refusal(name: str) -> str:
    """Returns why `name` may not become a path below a folder, or "" where it may.

    Backslashes and drive letters are judged as on Windows, so that a folder that is safe here is safe there.
    """
    if not name:
        return "is empty"
    if "\0" in name:
        return "contains a NUL character"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "is an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "climbs out of its folder with '..'"
    if any(segment in ("", ".") for segment in name.split("/")):
        return "has an empty or '.' segment, so it and another name would be one file"
    return ""


def check(name: str, uri: str) -> None:
    """Refuses a name that is no plain path below its folder.

    Raises:
        DatasetError: Names the object and the reason.
    """
    if reason := refusal(name):
        raise DatasetError(
            f"the object name {name!r} below {uri} {reason}; names of the form folder/file.jpg are allowed",
            next_step="Rename or delete that object, then start the job again.",
        )


def check_all(names: Iterable[str], uri: str) -> None:
    """Refuses names that climb, and names that are both a file and a folder.

    Raises:
        DatasetError: Names the first such object, or both of a pair.
    """
    files = set(names)
    for name in sorted(files):
        check(name, uri)
        parent = name.rpartition("/")[0]
        while parent:
            if parent in files:
                raise DatasetError(
                    f"{uri} has both an object {parent!r} and an object {name!r}; "
                    "a disk cannot hold a file and a folder of one name",
                    next_step="Rename one of the two, then start the job again.",
                )
            parent = parent.rpartition("/")[0]
