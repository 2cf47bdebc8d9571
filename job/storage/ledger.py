"""What a pulled folder says about itself: which objects it holds, at which versions, and whether it is complete.

`.pulling.json` is written before the first byte and `.pulled.json` after the last, so a folder without the
latter is not complete, and a later pull knows which files are an earlier pull's to remove.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from job.masking import masked
from job.storage import disk
from job.storage.names import RESERVED_PREFIX
from job.storage.store import ObjectInfo

MARKER = ".pulled.json"
INTENT = ".pulling.json"


def is_ours(name: str) -> bool:
    """Whether a file name is bookkeeping of this package, which is neither pulled nor pushed."""
    base = name.rpartition("/")[2]
    return base in (MARKER, INTENT) or base.startswith(RESERVED_PREFIX)


def listing_digest(infos: Iterable[ObjectInfo]) -> str:
    """Returns the SHA-256, hex, over name, size, version and checksum of all objects, sorted by name."""
    digest = hashlib.sha256()
    for info in sorted(infos, key=lambda info: info.name):
        row = json.dumps([info.name, info.size_bytes, info.version, info.checksum])
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()


@dataclass(slots=True)
class Ledger:
    """Files that pulls put into a folder.

    Attributes:
        entries: Name to (version, modification time in ns) once the file is verified; None while it is only planned.
    """

    entries: dict[str, tuple[str, int] | None] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Ledger:
        """Returns what the folder says, from whichever of the two files is there; nothing where it is damaged."""
        for name in (INTENT, MARKER):
            try:
                saved = json.loads((folder / name).read_bytes())["files"]
                return cls({str(file): None if row is None else (row[0], row[1]) for file, row in saved.items()})
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                break
        return cls()

    def plan(self, folder: Path, names: Iterable[str]) -> None:
        """Notes the names about to be fetched and takes the completeness marker away."""
        for name in names:
            self.entries.setdefault(name, None)
        disk.write_durably(folder / INTENT, json.dumps({"files": self.entries}).encode())
        (folder / MARKER).unlink(missing_ok=True)

    def commit(self, folder: Path, *, uri: str, digest: str, num_bytes: int) -> None:
        """Writes the completeness marker."""
        files = {name: entry for name, entry in self.entries.items() if entry is not None}
        said = {"uri": masked(uri), "digest": digest, "num_objects": len(files), "num_bytes": num_bytes, "files": files}
        disk.write_durably(folder / MARKER, json.dumps(said).encode())
        (folder / INTENT).unlink(missing_ok=True)

    def knows(self, info: ObjectInfo, path: Path) -> bool:
        """Whether the file was verified as exactly this version and not touched since."""
        return self.entries.get(info.name) == (info.version, path.stat().st_mtime_ns)
