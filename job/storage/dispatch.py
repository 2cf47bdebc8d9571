"""The one place that asks what scheme a URI has. A new scheme is one file and one row of `_SCHEMES`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from job.errors import ConfigError, nearest
from job.storage.store import Store


def _file(uri: str, host: str, path: str) -> Store:
    from job.storage.local import LocalStore

    return LocalStore(uri, _file_path(uri, host, path))


def _file_path(uri: str, host: str, path: str) -> Path:
    if host not in ("", "localhost"):
        raise ConfigError(
            f"the URI {uri!r} names the host {host!r}; a file:// URI has three slashes",
            next_step=f"Write file:///{host}/{path} or the plain path.",
        )
    return Path("/" + unquote(path))


def _gs(uri: str, bucket: str, prefix: str) -> Store:
    from job.storage.gcs import GcsStore

    return GcsStore(uri, bucket, prefix)


def _s3(uri: str, bucket: str, prefix: str) -> Store:
    from job.storage.s3 import S3Store

    return S3Store(uri, bucket, prefix)


def _az(uri: str, container: str, prefix: str) -> Store:
    from job.storage.azure import AzureStore

    return AzureStore(uri, container, prefix)


_SCHEMES: dict[str, Callable[[str, str, str], Store]] = {"file": _file, "gs": _gs, "s3": _s3, "az": _az}
_EXTRAS = {"gs": "", "s3": "[s3]", "az": "[az]"}
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>/+)(?P<host>[^/]*)/?(?P<path>.*)", re.DOTALL)


def at(uri: str) -> Store:
    """Returns the store for everything below `uri`: a path, file://, gs://, s3:// or az://.

    Nothing is contacted yet. The client of a scheme is imported here, on first use.

    Raises:
        ConfigError: Unknown scheme, no bucket, or the scheme's package is not installed.
    """
    scheme, host, path = _parse(uri)
    if not scheme:
        from job.storage.local import LocalStore

        return LocalStore(uri, Path(uri).expanduser())
    if scheme != "file" and not host:
        raise ConfigError(
            f"the URI {uri!r} names no bucket", next_step=f"Write it as {scheme}://BUCKET/FOLDER (two slashes)."
        )
    try:
        return _SCHEMES[scheme](uri, host, path.strip("/") if scheme != "file" else path)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "job":
            raise
        raise ConfigError(
            f"{scheme}:// needs the package {error.name!r}, which is not installed (for {uri})",
            next_step=f"pip install 'finetune-job{_EXTRAS[scheme]}'",
        ) from error


def is_remote(uri: str) -> bool:
    """Whether `uri` must be copied before TensorFlow can read it.

    Raises:
        ConfigError: Unknown scheme.
    """
    return _parse(uri)[0] not in ("", "file")


def local_path(uri: str) -> Path | None:
    """Returns the path of what lies on this machine (a plain path or file://), None for what is remote.

    Raises:
        ConfigError: Unknown scheme, or a file:// URI of another host.
    """
    scheme, host, path = _parse(uri)
    if not scheme:
        return Path(uri).expanduser()
    return _file_path(uri, host, path) if scheme == "file" else None


def join(uri: str, *parts: str) -> str:
    """Returns `uri` with `parts` below it, one slash between them; empty parts are left out."""
    return "/".join([uri if uri.endswith("://") else uri.rstrip("/"), *(part.strip("/") for part in parts if part)])


def split(uri: str) -> tuple[str, str]:
    """Returns the folder of one object and its name: `at(folder)` and the name for its methods.

    `gs://bucket/a/data.csv` gives `("gs://bucket/a", "data.csv")`; a plain `data.csv` gives `(".", "data.csv")`.

    Raises:
        ConfigError: Unknown scheme, or `uri` is a bucket, which has no folder above it.
    """
    scheme, _, path = _parse(uri)
    if scheme and not path.strip("/"):
        raise ConfigError(
            f"the URI {uri!r} names a whole bucket where one object is expected",
            next_step="Add the object's name to it.",
        )
    folder, slash, name = uri.rstrip("/").rpartition("/")
    return (folder or slash or "."), name


def _parse(uri: str) -> tuple[str, str, str]:
    """Returns scheme ("" for a plain path), host or bucket, and the rest without its leading slash."""
    found = _URI.match(uri)
    if found is None or (len(found["slashes"]) == 1 and found["scheme"].lower() not in _SCHEMES):
        return "", "", uri
    scheme = found["scheme"].lower()
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"the URI {uri!r} has the unknown scheme {scheme!r}; allowed are a plain path and "
            f"{', '.join(name + '://' for name in sorted(_SCHEMES))}.{nearest(scheme, _SCHEMES)}",
            next_step="Correct the URI.",
        )
    if len(found["slashes"]) == 1 and scheme != "file":
        raise ConfigError(
            f"the URI {uri!r} has one slash after the scheme; two are needed",
            next_step=f"Write {scheme}://{found['host']}/{found['path']}.",
        )
    if len(found["slashes"]) != 2:  # file:/x and file:///x have no host (RFC 8089)
        return scheme, "", f"{found['host']}/{found['path']}" if found["path"] else found["host"]
    return scheme, found["host"], found["path"]
