"""How the survey gets an image's bytes, whatever layout it lies in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")


class UnreadableRecordError(Exception):
    """The container holds the image, but its bytes fail the container's own checksum."""


class Reader(Protocol):
    """The bytes of an example by its uri. Used by several threads, and pickled into worker processes."""

    def read(self, uri: str) -> bytes:
        """Returns the encoded image.

        Raises:
            OSError: When the file is not there or cannot be read.
            UnreadableRecordError: When the stored bytes are damaged.
        """
        ...

    def stamp(self, uri: str) -> str:
        """Returns what changes when the image's bytes do (size and mtime); "" where it is missing."""
        ...


def is_full_uri(image: str) -> bool:
    """Says whether a manifest's image lies in a bucket rather than beside the manifest."""
    return bool(_SCHEME.match(image)) and not image.startswith("file://")


@dataclass(frozen=True)
class FileReader:
    """Reads images that are files of their own.

    Attributes:
        root: The folder that relative uris are relative to.
        local: Where an image that a manifest names by its full URI was downloaded to.
    """

    root: Path
    local: Mapping[str, Path] = field(default_factory=dict)

    def path(self, uri: str) -> Path:
        """Returns where the image lies on this machine.

        Raises:
            FileNotFoundError: When it is in a bucket and was not downloaded.
        """
        if (downloaded := self.local.get(uri)) is not None:
            return downloaded
        if uri.startswith("file://"):
            return Path(unquote(uri.removeprefix("file://")))
        if is_full_uri(uri):
            raise FileNotFoundError(f"{uri} was not downloaded")
        return self.root / uri

    def read(self, uri: str) -> bytes:
        return self.path(uri).read_bytes()

    def stamp(self, uri: str) -> str:
        try:
            status = self.path(uri).stat()
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"
