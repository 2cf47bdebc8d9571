"""How the survey gets an image's bytes, whatever layout it lies in."""

from __future__ import annotations

import errno
import re
import stat
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


def as_text(name: str) -> str:
    r"""Returns a file's name as text that can be written anywhere: bytes that are not UTF-8 become `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def as_file_name(name: str) -> str:
    """Returns the file's name that `as_text` made text of."""
    data = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return data.decode("utf-8", "surrogateescape")


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
        path = self.root / uri
        return path if "\\x" not in uri or path.exists() else self.root / as_file_name(uri)

    def read(self, uri: str) -> bytes:
        path = self.path(uri)
        # Opening a pipe waits for ever, and a device may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "is a folder, pipe or device, not a file")
        return path.read_bytes()

    def stamp(self, uri: str) -> str:
        try:
            status = self.path(uri).stat()
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"
