"""Whole folders between a store and the disk: parallel, every byte checked, and safe to run again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from job.errors import DatasetError, InputMissingError, JobError
from job.storage import checksum, disk, names
from job.storage.ledger import Ledger, is_ours, listing_digest
from job.storage.local import LocalStore
from job.storage.parallel import for_each, in_turns
from job.storage.store import SMALL_BYTES, ObjectInfo, Steps, Stepwise, Store

Progress = Callable[[int, int], None]
"""Called with (objects done, objects in all), in the caller's thread, some ten times a second and at the end."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did. `num_fetched` leaves out what was already there and right; `digest` is the listing's."""

    num_objects: int
    num_bytes: int
    num_fetched: int
    num_retries: int
    digest: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. `num_sent` leaves out what was already there and equal."""

    num_objects: int
    num_bytes: int
    num_sent: int
    num_retries: int
    seconds: float


def pull(
    store: Store,
    to_dir: Path,
    *,
    names: Iterable[str] | None = None,
    listing: Sequence[ObjectInfo] | None = None,
    objects: Sequence[ObjectInfo] | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Copies everything below the store's prefix into a folder and marks it complete.

    A second call fetches only what is missing or differs (size and checksum, not mere existence). Files that an earlier
    pull brought and that are gone from the store are removed, unless `names` or `objects` restrict the
    pull. Two pulls into one folder, of any processes on the disk, take turns.

    Args:
        to_dir: Made where it is missing. Other files in it are left alone.
        names: Only these objects, relative to the store's prefix; the folder keeps what it holds.
        listing: What `listed` returned, to spare another one; then what is gone from the store is removed in any case.
        objects: These alone, as `described` returned them, in place of `names` and `listing`.

    Raises:
        InputMissingError: Nothing is there, or one of `names` is not.
        DatasetError: An object's name climbs out of the folder, or is both a file and a folder.
        TemporaryError: Not enough space, or objects that failed all their tries; complete files stay.
    """
    started_s = time.monotonic()
    with disk.border(str(to_dir), to_dir):
        to_dir.mkdir(parents=True, exist_ok=True)
        with disk.locked(to_dir):
            disk.sweep(to_dir)
            only = None if names is None else sorted(set(names))
            return _pull(store, to_dir, only, listing, objects, progress, started_s)


def _pull(
    store: Store,
    to_dir: Path,
    only: Sequence[str] | None,
    listing: Sequence[ObjectInfo] | None,
    objects: Sequence[ObjectInfo] | None,
    progress: Progress | None,
    started_s: float,
) -> Pulled:
    retries_before = store.num_retries
    if only is not None and listing is None:
        objects = described(store, only)
    infos = objects if objects is not None else listing or listed(store)
    names.check_all((info.name for info in infos), store.uri)
    ledger = Ledger.load(to_dir)
    if objects is None:
        _remove_stale(ledger, {info.name for info in infos}, to_dir)
        if only is not None:
            wanted = set(only)
            infos = [info for info in infos if info.name in wanted]
    here = {info.name: info.size_bytes for info in LocalStore(str(to_dir), to_dir).list()}
    needed_bytes = sum(info.size_bytes for info in infos if here.get(info.name) != info.size_bytes)
    disk.demand(f"{store.uri} needs {needed_bytes / 1e6:,.1f} MB more on the disk of {to_dir}", to_dir, needed_bytes)
    ledger.plan(to_dir, (info.name for info in infos))

    downloading = _downloading_from(store)

    def work(info: ObjectInfo) -> Steps[bool]:
        path = to_dir / info.name
        if here.get(info.name) == info.size_bytes and (ledger.knows(info, path) or is_equal(info, path)):
            ledger.entries[info.name] = (info.version, path.stat().st_mtime_ns)
            return False
        ledger.entries[info.name] = (info.version, (yield from downloading(info, path)))
        return True

    fetched = in_turns(
        infos,
        work,
        is_short=lambda info: info.size_bytes <= SMALL_BYTES,
        doing=f"pulling from {store.uri}",
        name=lambda info: info.name,
        progress=progress,
    )
    digest, num_bytes = listing_digest(infos), sum(info.size_bytes for info in infos)
    ledger.commit(to_dir, uri=store.uri, digest=digest, num_bytes=num_bytes)
    num_retries = store.num_retries - retries_before
    return Pulled(len(infos), num_bytes, sum(fetched), num_retries, digest, time.monotonic() - started_s)


def push(
    from_dir: Path, store: Store, *, prefix: str = "", last: Sequence[str] = (), progress: Progress | None = None
) -> Pushed:
    """Copies a folder's files below `store.uri/prefix`, only those that differ in size or checksum.

    `last` are markers: while anything else has still to change they are taken away, last first, so that nobody takes
    a mixture for a whole. Objects that the folder does not have are left alone.

    Args:
        prefix: Folder below the store's prefix; "" is the prefix itself.
        last: Names, relative to `from_dir`, that are written after all others, in this order.

    Raises:
        InputMissingError: The folder or one of `last` is not there.
        JobError: What failed all its tries; then none of `last` was written.
    """
    started_s, retries_before = time.monotonic(), store.num_retries
    base = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    infos = [info for info in LocalStore(str(from_dir), from_dir).list() if not is_ours(info.name)]
    if absent := sorted(set(last) - {info.name for info in infos}):
        raise InputMissingError(
            f"{from_dir} has no {absent[0]!r}, which is to be pushed last", next_step="Start the job again."
        )
    there: dict[str, ObjectInfo] = {}
    with contextlib.suppress(InputMissingError):  # a folder not made yet; a missing bucket fails at the first upload
        there = {info.name: info for info in store.list(base)}

    def differs(info: ObjectInfo) -> bool:
        old = there.get(base + info.name)
        return old is None or not is_equal(old, from_dir / info.name)

    doing = f"pushing to {store.uri}"
    rest = [info for info in infos if info.name not in last]
    changed = [
        info
        for info, is_changed in for_each(rest, lambda info: (info, differs(info)), doing=doing, name=lambda i: i.name)
        if is_changed
    ]
    if changed:
        for name in reversed(last):
            if there.pop(base + name, None):
                store.delete(base + name)
    for_each(
        sorted(changed, key=lambda info: info.name),
        lambda info: store.upload(from_dir / info.name, base + info.name),
        doing=doing,
        name=lambda info: info.name,
        progress=progress,
    )
    num_sent = len(changed)
    for name in last:
        if differs(ObjectInfo(name, 0, "")):
            store.upload(from_dir / name, base + name)
            num_sent += 1
    num_bytes = sum(info.size_bytes for info in infos)
    num_retries = store.num_retries - retries_before
    return Pushed(len(infos), num_bytes, num_sent, num_retries, time.monotonic() - started_s)


def listed(store: Store) -> list[ObjectInfo]:
    """Returns the objects below the store's prefix that a pull copies, sorted by name.

    Raises:
        InputMissingError: Nothing is there.
    """
    infos = [info for info in store.list() if not info.name.endswith("/") and not is_ours(info.name)]
    if not infos:
        is_object = store.stat("") is not None
        raise InputMissingError(
            f"nothing is below {store.uri}{'/: it is a single object' if is_object else '/'}",
            next_step="Check the spelling of the URI, and that the files were uploaded there.",
        )
    return infos


def described(store: Store, only: Sequence[str], *, progress: Progress | None = None) -> list[ObjectInfo]:
    """Returns the objects of these names, each once, sorted by name; each is asked for by itself.

    Raises:
        InputMissingError: One is not there. Names the first few.
        DatasetError: A name climbs out of its folder.
    """
    for name in only:
        names.check(name, store.uri)
    doing = f"looking in {store.uri}"
    found = for_each(only, lambda name: (name, store.stat(name)), doing=doing, name=str, progress=progress)
    if absent := sorted(name for name, info in found if info is None):
        raise InputMissingError(
            f"{len(absent)} of {len(only)} files are not below {store.uri}/: {', '.join(absent[:5])}"
            f"{', …' if len(absent) > 5 else ''}",
            next_step="Correct the names, or upload the files.",
        )
    return sorted((info for _, info in found if info is not None), key=lambda info: info.name)


def _downloading_from(store: Store) -> Callable[[ObjectInfo, Path], Steps[int]]:
    """Returns what downloads, by steps where the store can, and makes the file's modification time in ns."""
    # Asked once: looking through a protocol takes as long as two system calls.
    stepwise = store if isinstance(store, Stepwise) else None

    def downloading(info: ObjectInfo, path: Path) -> Steps[int]:
        try:
            if stepwise is not None:
                return (yield from stepwise.downloading(info, path))
            store.download(info, path)
            return path.stat().st_mtime_ns
        except JobError as error:
            if not path.is_dir():
                raise
            raise DatasetError(
                f"{path} is a folder, and the object {info.name!r} needs that name",
                next_step=f"Remove the folder {path}.",
            ) from error

    return downloading


def is_equal(info: ObjectInfo, path: Path) -> bool:
    """Whether a file is there with an object's size and checksum; False where the service lists no checksum."""
    if not (info.algorithm and path.is_file()) or path.stat().st_size != info.size_bytes:
        return False
    return checksum.of_file(path, info.algorithm) == info.checksum


def _remove_stale(ledger: Ledger, wanted: set[str], to_dir: Path) -> None:
    for name in sorted(set(ledger.entries) - wanted):
        if not names.refusal(name):
            (to_dir / name).unlink(missing_ok=True)
            remove_empty((to_dir / name).parent, to_dir)
        del ledger.entries[name]


def remove_empty(folder: Path, up_to: Path) -> None:
    """Removes folders that a removed file was the last in: an empty class folder would count as a class."""
    while folder != up_to and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
