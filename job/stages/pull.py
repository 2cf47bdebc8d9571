"""From `data.uri` to local disk: the whole dataset."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from job.dataset import layouts
from job.storage import at, local_path, split, transfer
from job.workspace import Workspace, slug


def dataset(workspace: Workspace) -> Path:
    """Returns the local path of the data: where it is, or the copy of a remote folder or file.

    An archive is unpacked by then; `layouts` finds it in the cache.
    """
    uri = workspace.config.data.uri
    assert uri is not None
    if (path := local_path(uri)) is not None:
        unpack(workspace, path)
        return path
    # A URI may name one file (an archive, a manifest, a shard) as well as a folder.
    if at(uri).stat("") is None:
        _pull(workspace, uri, None)
        unpack(workspace, workspace.data_dir)
        return workspace.data_dir
    path = one_file(workspace, uri)
    if beside := layouts.images_beside(path, workspace.config.data.layout, work_dir=workspace.cache_dir):
        folder, name = split(uri)
        _pull(workspace, folder, [name, *beside])
    return path


def one_file(workspace: Workspace, uri: str) -> Path:
    """Returns the local copy of a dataset that is one object, without the images that it may name."""
    folder, name = split(uri)
    _pull(workspace, folder, [name])
    path = workspace.data_dir / name
    unpack(workspace, path)
    return path


def unpack(workspace: Workspace, path: Path) -> None:
    """Unpacks an archive under a bar of its own; whoever locates the data later finds it done."""
    layout = workspace.config.data.layout
    if not layouts.is_archive(path, layout):
        return
    with workspace.timings.stage("unpack"), workspace.bar("unpack", unit="MB") as bar:
        hook = workspace.watched(bar, "unpack")

        def in_megabytes(done_bytes: int, total_bytes: int) -> None:
            hook(math.ceil(done_bytes / 1e6), math.ceil(total_bytes / 1e6))

        layouts.locate(path, layout, work_dir=workspace.cache_dir, on_progress=in_megabytes)


def named_images(workspace: Workspace, local_path: Path) -> dict[str, Path]:
    """Returns the local copy of each image that a manifest names by its full URI."""
    uris = layouts.remote_images(local_path, workspace.config.data.layout, work_dir=workspace.cache_dir)
    local: dict[str, Path] = {}
    if uris:
        with workspace.timings.stage("pull"), workspace.bar("pull", unit="images") as bar:
            hook = workspace.watched(bar, "pull")
            for folder, names in by_folder(uris).items():
                to_dir = images_dir(workspace, folder)
                transfer.pull(at(folder), to_dir, names=names)
                local |= {f"{folder}/{name}": to_dir / name for name in names}
                hook(len(local), len(uris))
    return local


def by_folder(uris: Iterable[str]) -> dict[str, list[str]]:
    """Returns folder → names in it, of images named by their full URIs: `folder/name` is the URI."""
    found: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        folder, name = split(uri)
        found[folder].append(name)
    return found


def images_dir(workspace: Workspace, folder: str) -> Path:
    """Returns where the images of a folder go that manifests name by their full URIs, those of other runs as well."""
    return workspace.data_dir.parent / "images" / slug(folder)


def _pull(workspace: Workspace, uri: str, names: list[str] | None) -> None:
    with workspace.timings.stage("pull"), workspace.bar("pull", unit="objects") as bar:
        progress = workspace.watched(bar, "pull")
        pulled = transfer.pull(at(uri), workspace.data_dir, names=names, progress=progress)
    workspace.console.info(
        f"Pulled {pulled.num_objects} objects, {pulled.num_bytes / 1e6:.1f} MB, {pulled.num_fetched} of them now.",
        objects=pulled.num_objects,
        bytes=pulled.num_bytes,
    )
