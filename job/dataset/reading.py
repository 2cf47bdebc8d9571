"""How the survey gets an image's bytes, whatever layout it lies in."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")

MAX_BYTES = 1 << 30
"""Of one image, as it is read whole: 100 megapixels of four 16-bit channels, not compressed, are 0.8 GB."""


class OutsideError(OSError):
    """The image is a link that leads out of the data folder."""


class UnreadableRecordError(Exception):
    """The container holds the image, but its bytes fail the container's own checksum."""


class Reader(Protocol):
    """The bytes of an example by its uri. Used by several threads, and pickled into worker processes."""

    def read(self, uri: str) -> bytes:
        """Returns the encoded image.

        Raises:
            OSError: When the file is not there or cannot be read; EFBIG when it is too large to be an image.
            OutsideError: When it is a link out of the data folder, and those are not to be followed.
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


def named(root: Path, name: str) -> str:
    """Returns the path of the file that `as_text` gave this name."""
    # Text and not a Path: for every image that costs a hundredth of decoding it, and nothing of it is used. A Path
    # leaves out what may stand at the end.
    path = os.path.join(root, name) if name[-1:] not in ("", "/", ".") else str(root / name)
    return path if "\\x" not in name or os.path.exists(path) else os.path.join(root, as_file_name(name))


@lru_cache(maxsize=1024)
def _resolved(folder: str) -> str:
    # Once a folder, as it asks the system about every part of its name. What is read is what it was found to be.
    return str(Path(folder).resolve())


def _content(path: str, size_bytes: int) -> bytes:
    """Returns what is in a file of about this size: `Path.read_bytes` without the objects between."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, size_bytes + 1):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class FileReader:
    """Reads images that are files of their own.

    Attributes:
        root: The folder that relative uris are relative to.
        local: Where an image that a manifest names by its full URI was downloaded to.
        follow_links: Whether links may lead out of `root`. Whoever can put a link into the folder would have any
            image that the job may read trained on, and shipped among the examples of the proof.
    """

    root: Path
    local: Mapping[str, Path] = field(default_factory=dict)
    follow_links: bool = False

    def path(self, uri: str) -> str:
        """Returns where the image lies on this machine.

        Raises:
            FileNotFoundError: When it is in a bucket and was not downloaded.
        """
        if (downloaded := self.local.get(uri)) is not None:
            return str(downloaded)
        if uri.startswith("file://"):
            return str(Path(unquote(uri.removeprefix("file://"))))
        if is_full_uri(uri):
            raise FileNotFoundError(f"{uri} was not downloaded")
        return named(self.root, uri)

    def read(self, uri: str) -> bytes:
        path = self.path(uri)
        status = os.stat(path)
        # Opening a pipe waits for ever, and a device may never end.
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is a folder, pipe or device, not a file")
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"the file has {status.st_size / 1e9:.1f} GB; at most {MAX_BYTES / 1e9:.1f}")
        return _content(self._inside(path, uri), status.st_size)

    def _inside(self, path: str, uri: str) -> str:
        """Returns the path without links, for what lies in the folder or was named by a full URI."""
        if self.follow_links or uri in self.local or uri.startswith("file://"):
            return path
        folder, name = os.path.split(path)
        real = str(Path(path).resolve()) if os.path.islink(path) else os.path.join(_resolved(folder), name)
        if not real.startswith(self._real_root):
            raise OutsideError(
                f"a link that leads out of the data folder, to {as_text(real)}; data.follow_links=true reads it"
            )
        return real

    @cached_property
    def _real_root(self) -> str:
        return os.path.join(self.root.resolve(), "")

    def stamp(self, uri: str) -> str:
        try:
            status = os.stat(self.path(uri))
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"
