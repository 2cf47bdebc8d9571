"""A .zip or .tar (also compressed) of any other layout, unpacked once into the work folder.

Only plain files and folders below the target come out of it: an archive with a name that climbs, an
absolute name, a link or a device is refused before anything of it is used, and one that grows a
hundredfold fills no disk. The unpacked folder gets its final name last, so that it is whole wherever it
exists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Final

from job.errors import DatasetError, JobError
from job.storage import disk

EXTENSIONS: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

MAX_GROWTH: Final = 100
"""Images are compressed already: not even a .zip of plain bitmaps grows so much."""
HARMLESS_BYTES: Final = 64 << 20
"""What an archive may hold however small it is."""

Progress = Callable[[int, int], None]


def find(root: Path) -> Path | None:
    """Returns the archive that `root` is, or the only thing it holds; None where it is neither.

    Raises:
        DatasetError: When the folder holds several archives and nothing else.
    """
    if root.is_file():
        return root if _is_archive(root) else None
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    archives = sorted(path for path in visible if path.is_file() and _is_archive(path))
    if not archives or any(path.is_dir() for path in visible):
        return None
    if len(archives) > 1:
        raise DatasetError(
            f"The folder holds {len(archives)} archives ({', '.join(path.name for path in archives)}); one is read.",
            next_step="Point data.uri at one of them, or unpack them into one folder.",
        )
    return archives[0]


def unpack(path: Path, work_dir: Path, *, on_progress: Progress | None = None) -> Path:
    """Returns the folder with the archive's files, unpacking it where that was not done yet.

    Args:
        work_dir: The folder is made in here and named after the archive's name, size and time.
        on_progress: Takes bytes done and the archive's size; for a .tar the bytes of the archive, for a
            .zip those unpacked.

    Raises:
        DatasetError: When the archive is damaged, encrypted, or holds something that must not be unpacked.
        TemporaryError: When the disk is full.
    """
    status = path.stat()
    allowed = max(HARMLESS_BYTES, MAX_GROWTH * status.st_size)
    digest = hashlib.sha256(f"{path.name}:{status.st_size}:{status.st_mtime_ns}".encode()).hexdigest()[:16]
    target = work_dir / f"unpacked-{digest}"
    if target.is_dir():
        return target
    partial = work_dir / f"unpacked-{digest}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        members = _from_zip(path, on_progress) if path.suffix.lower() == ".zip" else _from_tar(path, on_progress)
        with closing(members):
            for name, content in members:
                file = partial / name
                file.parent.mkdir(parents=True, exist_ok=True)
                with content, file.open("wb") as out:
                    while part := content.read(1 << 20):
                        allowed -= len(part)
                        if allowed < 0:
                            raise _bomb(path)
                        out.write(part)
        partial.replace(target)
    except JobError:
        raise
    except OSError as error:
        if target.is_dir():  # Another process was faster; its folder is as whole as ours.
            return target
        shutil.rmtree(partial, ignore_errors=True)  # before the free space is told
        raise _refusal(path, work_dir, error) from error
    except Exception as error:  # tarfile and zipfile raise nearly every type on damaged bytes.
        raise _damaged(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(EXTENSIONS)


def _from_zip(path: Path, on_progress: Progress | None) -> Generator[tuple[str, IO[bytes]], None, None]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total, done = sum(member.file_size for member in members), 0
        if total > max(HARMLESS_BYTES, MAX_GROWTH * path.stat().st_size):
            raise _bomb(path)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            name = _safe(member.filename, "" if is_plain else "a link or device", path)
            if not member.is_dir():
                yield name, archive.open(member)
            done += member.file_size
            if on_progress:
                on_progress(done, total)


def _from_tar(path: Path, on_progress: Progress | None) -> Generator[tuple[str, IO[bytes]], None, None]:
    total = path.stat().st_size
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        for member in archive:
            name = _safe(member.name, "" if member.isfile() or member.isdir() else "a link or device", path)
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield name, content
            if on_progress:
                on_progress(min(file.tell(), total), total)
        if on_progress:
            on_progress(total, total)


def _refusal(path: Path, work_dir: Path, error: OSError) -> JobError:
    """Returns whose fault it was: decompressors raise an OSError without a number on damaged bytes."""
    if isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError):
        return DatasetError(
            f"The archive {path.name!r} holds a file and a folder of one name: {error}.",
            next_step="Make the archive again from a folder.",
        )
    if error.errno is None:
        return _damaged(path, error)
    if disk.is_no_space(error):
        return disk.no_space(f"the disk is full while unpacking the archive {path.name!r} into {work_dir}", work_dir)
    return JobError(
        f"The archive {path.name!r} cannot be unpacked into {str(work_dir)!r}: {error}.",
        next_step="Check the archive and the permissions of work_dir.",
    )


def _damaged(path: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"The archive {path.name!r} cannot be unpacked: {error or type(error).__name__}.",
        next_step="Make or download the archive again, without a password.",
    )


def _bomb(path: Path) -> DatasetError:
    return DatasetError(
        f"The archive {path.name!r}, {path.stat().st_size} bytes, unpacks to more than {MAX_GROWTH} times its size "
        f"(and more than {HARMLESS_BYTES} bytes); images do not.",
        next_step="Unpack it yourself and look what is in it; point data.uri at the folder if it is right.",
    )


def _safe(name: str, kind: str, path: Path) -> str:
    # Windows tools write backslashes into .zip files although the format says "/".
    posix = PurePosixPath(name.replace("\\", "/"))
    climbs = ".." in posix.parts or posix.is_absolute() or ":" in (posix.parts or ("",))[0] or "\0" in name
    if climbs or kind:
        raise DatasetError(
            f"The archive {path.name!r} holds {name!r}, {kind or 'a name that leads out of its folder'}; "
            "only files and folders below the archive's own are unpacked.",
            next_step="Make the archive again with plain files and relative names.",
        )
    return str(posix)
