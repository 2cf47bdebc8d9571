"""The one door to storage: `at(uri)` gives a `Store`; nothing else asks what scheme a URI has."""

from job.storage.dispatch import at, is_remote, join, local_path, split
from job.storage.store import ABSENT, ObjectInfo, Store, VersionConflictError

__all__ = ["ABSENT", "ObjectInfo", "Store", "VersionConflictError", "at", "is_remote", "join", "local_path", "split"]
