"""The local disk's rules: temp + rename, a lock between processes, and operating-system errors in our words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from job.errors import AccessError, ConfigError, DatasetError, InputMissingError, JobError, TemporaryError
from job.storage.names import RESERVED_PREFIX

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK_NAME = f"{RESERVED_PREFIX}lock"
_DEMANDED_FROM_BYTES: Final = 64 << 20
"""Size from which room for a single download is asked for; that of many small ones is, before the first."""

# Of its own: a job may seed the common one, and two processes that write into one folder must not draw the same names.
_draw = random.Random()
os.register_at_fork(after_in_child=_draw.seed)


@contextlib.contextmanager
def border(uri: str, where: Path) -> Iterator[None]:
    """Turns operating-system errors inside the block into the job's own, keeping the cause.

    Args:
        uri: What the block works on, for messages.
        where: A path on the disk it works on, to say how much space is free.
    """
    try:
        yield
    except OSError as error:
        raise translate(error, uri, where) from error


def translate(error: OSError, uri: str, where: Path) -> JobError:
    """Returns the job's error for what the operating system said about `uri`; arguments as in `border`."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(
            f"no permission for {uri} ({reason}, as user {os.getuid()})",
            next_step="Give this user the right to read it, and to write where the job writes.",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return InputMissingError(f"{uri} does not exist ({reason})", next_step="Check the spelling of the path.")
    if is_no_space(error):
        return no_space(f"the disk is full while writing {uri} ({reason})", where)
    if error.errno == errno.ENAMETOOLONG:
        return DatasetError(f"the name of {uri} is too long for this disk", next_step="Rename it.")
    if error.errno == errno.EEXIST:
        return ConfigError(
            f"{uri} cannot be made: there is a file where a folder is expected", next_step="Choose another path."
        )
    if error.errno == errno.EISDIR:
        return DatasetError(f"{uri} is a folder where a file is expected", next_step="Check the path.")
    return TemporaryError(f"{uri} cannot be used: {reason}", next_step="Check the disk, then start the job again.")


def is_no_space(error: Exception) -> bool:
    """Whether a disk, a quota or a limit on the size of files is used up; TensorFlow says it in its text alone."""
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    return any(os.strerror(number) in str(error) for number in _NO_SPACE)


@contextlib.contextmanager
def filling(path: Path, needed_bytes: int) -> Iterator[None]:
    """Refuses to start what does not fit on the disk of `path`, and says so clearly where it fills up all the same.

    Args:
        path: What the block writes: a file or a folder.
        needed_bytes: As far as can be foreseen.

    Raises:
        TemporaryError: Names the path, what is needed and what is free.
    """
    demand(f"{path} needs {needed_bytes / 1e6:,.1f} MB", path, needed_bytes)
    try:
        yield
    except Exception as error:
        if not is_no_space(error):
            raise
        message = f"the disk is full while writing {path}, which needs {needed_bytes / 1e6:,.1f} MB"
        raise no_space(message, path) from error


def demand(message: str, path: Path, needed_bytes: int) -> None:
    """Raises the error for a full disk, with `message`, where less than `needed_bytes` is free at `path`."""
    if needed_bytes > free_bytes(path):
        raise no_space(message, path)


def no_space(message: str, path: Path) -> TemporaryError:
    """Returns the error for a full disk, with the space that is free where `path` is or will be."""
    return TemporaryError(
        f"{message}; {free_bytes(path) / 1e6:,.1f} MB are free",
        next_step="Free some space or give the job a larger disk, then start it again: it continues where it stopped.",
    )


def free_bytes(path: Path) -> int:
    """Returns the free space on the disk that holds `path`, or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def beside(to: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `to`, which is made; whatever is there at the end is removed."""
    with border(str(to), to):
        to.parent.mkdir(parents=True, exist_ok=True)
    temp = to.parent / _temporary_name()
    try:
        yield temp
    finally:
        temp.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(to: Path) -> Iterator[Path]:
    """Yields a temporary path that takes the name `to` when the block succeeds, and vanishes when not.

    Not flushed to the disk: thousands of downloads would wait for it, and a marker written with `write_durably`
    says when they are all there.
    """
    with beside(to) as temp:
        yield temp
        with border(str(to), to):
            os.replace(temp, to)


class Arriving:
    """A file that is being written under a temporary name, straight through to the system."""

    def __init__(self, descriptor: int, to: Path) -> None:
        self._descriptor, self._to = descriptor, to

    def write(self, data: bytes) -> None:
        """Appends all of `data`, at least 0 bytes."""
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):  # at the disk's end, where the next try says so
                written += os.write(self._descriptor, memoryview(data)[written:])
        except OSError as error:
            raise translate(error, str(self._to), self._to) from error

    def modified_ns(self) -> int:
        """Returns the file's modification time, which the final name does not change."""
        return os.fstat(self._descriptor).st_mtime_ns

    def empty(self) -> None:
        with border(str(self._to), self._to):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)


@contextlib.contextmanager
def arriving(to: Path, size_bytes: int) -> Iterator[Arriving]:
    """As `replacing`, for many small files: 3 system calls each, besides the writing.

    Args:
        size_bytes: What the file will have, for the message when the disk fills up.

    Raises:
        TemporaryError: The disk is full. Names the path, what is needed and what is free.
    """
    if size_bytes >= _DEMANDED_FROM_BYTES:
        demand(f"{to} needs {size_bytes / 1e6:,.1f} MB", to, size_bytes)
    temp = os.path.join(os.path.dirname(to), _temporary_name())
    try:
        descriptor = _created(temp)
        try:
            yield Arriving(descriptor, to)
        finally:
            os.close(descriptor)
        os.replace(temp, to)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        if isinstance(error, Exception) and is_no_space(error):
            message = f"the disk is full while writing {to}, which needs {size_bytes / 1e6:,.1f} MB"
            raise no_space(message, to) from error
        if isinstance(error, OSError):
            raise translate(error, str(to), to) from error
        raise


def _temporary_name() -> str:
    return f"{RESERVED_PREFIX}{_draw.getrandbits(64):016x}.part"


def _created(path: str) -> int:
    """Returns the descriptor of a new file; its folder is made where it is missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except (FileNotFoundError, NotADirectoryError):  # the latter again, in better words
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o666)


def take_name(temp: Path, to: Path) -> None:
    """Flushes a finished temporary file to the disk and gives it its final name."""
    flush(temp)
    os.replace(temp, to)
    flush(to.parent)


def write_durably(to: Path, data: bytes) -> None:
    """Writes a small file that is whole, or not there, even after a power cut."""
    with beside(to) as temp, border(str(to), to):
        temp.write_bytes(data)
        take_name(temp, to)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder's lock; others wait, in this process and in all others that share the disk.

    The lock file is removed by its holder; whoever waited for it finds that its name is gone or is another file's
    by now, and asks again. A lock on the folder itself would need no file, but NFS grants locks only on files open
    for writing (flock(2), "NFS details").
    """
    path = folder / _LOCK_NAME
    while True:
        with path.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_named(lock.fileno(), path):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one under its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def touch_after(path: Path, previous_ns: int) -> None:
    """Gives a file a modification time that no earlier version of it had.

    The kernel's clock ticks every few milliseconds and inode numbers are reused, so two quick writes could
    look like one version.
    """
    now_ns = max(time.time_ns(), previous_ns + 1)
    os.utime(path, ns=(now_ns, now_ns))


def sweep(folder: Path) -> None:
    """Removes temporary files that killed processes left anywhere below `folder`."""
    for temp in folder.rglob(f"{RESERVED_PREFIX}*.part"):
        temp.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Puts a file or folder on the disk itself: a machine may lose power after a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
