"""From `data.uri` to a dataset on local disk: pulled, surveyed, split, packed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from job import rundir
from job.dataset import layouts, prepare
from job.dataset.layouts.vocabulary import IMAGE_EXTENSIONS
from job.dataset.prepare import Dataset
from job.dataset.remote import Remote
from job.dataset.shares import Share
from job.stages import backbone
from job.storage import ObjectInfo, at, local_path, split, transfer
from job.workspace import Workspace, slug


def dataset(workspace: Workspace, share: Share | None = None) -> Dataset:
    """Returns the dataset; the chief publishes `dataset.csv`.

    Backbone and weights are looked at first: a wrong name should cost seconds.

    Args:
        share: This machine's part, where several prepare the data.
    """
    backbone.resolve(workspace)
    backbone.pretrained(workspace)
    path, remote = pull_share(workspace, share) if share else (pull(workspace), None)
    found = survey(workspace, path, share=share, remote=remote)
    found.write_csv(workspace.folder / rundir.DATASET)
    if workspace.cluster.is_chief:
        workspace.output.upload(workspace.folder / rundir.DATASET, rundir.DATASET)
    return found


def survey(
    workspace: Workspace,
    local_path: Path,
    *,
    pack: bool = True,
    share: Share | None = None,
    remote: Remote | None = None,
) -> Dataset:
    """Returns the surveyed, split and (unless only its report is wanted) packed dataset."""
    config = workspace.config
    data = config.data
    stored_px = data.stored_px or data.image_px or backbone.resolve(workspace).native_px
    local_images = pull_named_images(workspace, local_path)
    with workspace.timings.stage("survey"), workspace.bar("survey", unit="images") as bar:
        hook = workspace.watched(bar, "survey")
        found = prepare.prepare(
            data,
            dataset_dir=local_path,
            work_dir=workspace.cache_dir,
            stored_px=stored_px,
            seed=config.train.seed,
            on_progress=lambda what, done, total: hook(done, total) if what == "survey" else None,
            pack=pack,
            local_images=local_images,
            share=share,
            remote=remote,
        )
        num_seen = len(found.rows) if share is None else len(share.rows(len(found.rows)))
        hook(num_seen, num_seen)
    workspace.timings.num_images["survey"] = num_seen
    counts = ", ".join(f"{name} {count}" for name, count in found.summary.splits.items())
    workspace.console.info(
        f"{found.summary.num_images} images in {len(found.classes)} classes ({counts}); {found.summary.split_note}",
        images=found.summary.num_images,
        bad=found.summary.num_bad,
    )
    if found.summary.num_bad:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.summary.verdicts.items())
        workspace.console.warn(f"{found.summary.num_bad} images are not used ({verdicts}); dataset.csv names them.")
    for warning in found.summary.warnings:
        workspace.console.warn(warning)
    return found


def pull(workspace: Workspace) -> Path:
    """Returns the local path of the data: where it is, or the copy of a remote folder or file.

    An archive is unpacked by then; `layouts` finds it in the cache.
    """
    uri = workspace.config.data.uri
    assert uri is not None
    if (path := local_path(uri)) is not None:
        _unpack(workspace, path)
        return path
    # A URI may name one file (an archive, a manifest, a shard) as well as a folder.
    if at(uri).stat("") is None:
        _pull(workspace, uri, None)
        _unpack(workspace, workspace.data_dir)
        return workspace.data_dir
    folder, name = split(uri)
    _pull(workspace, folder, [name])
    path = workspace.data_dir / name
    _unpack(workspace, path)
    if beside := layouts.images_beside(path, workspace.config.data.layout, work_dir=workspace.cache_dir):
        _pull(workspace, folder, [name, *beside])
    return path


def pull_share(workspace: Workspace, share: Share) -> tuple[Path, Remote | None]:
    """As `pull`; of a remote folder's images only those of this machine's share, and what gives the others.

    What is no image by its name, such as manifests, shards and archives, is pulled whole: it says which images there
    are.
    """
    uri = workspace.config.data.uri
    assert uri is not None
    if local_path(uri) is not None or at(uri).stat("") is not None:
        return pull(workspace), None
    # Apart from what `pull` makes, which is whole.
    folder = workspace.data_dir.with_name(f"{workspace.data_dir.name}-share")
    listing = transfer.listed(at(uri))
    remote = Remote(at(uri), {info.name: info for info in listing}, folder)
    images = [info.name for info in listing if Path(info.name).suffix.lower() in IMAGE_EXTENSIONS]
    _pull(workspace, uri, sorted(set(remote.infos) - set(images)), folder, listing)
    remote.leave_out(images)
    examples = layouts.read(folder, workspace.config.data.layout, work_dir=workspace.cache_dir)
    mine = (examples[row].uri for row in share.rows(len(examples)))
    _pull(workspace, uri, [name for name in mine if name in remote.infos], folder, listing)
    return folder, remote


def _pull(
    workspace: Workspace,
    uri: str,
    names: list[str] | None,
    to_dir: Path | None = None,
    listing: Sequence[ObjectInfo] | None = None,
) -> None:
    with workspace.timings.stage("pull"), workspace.bar("pull", unit="objects") as bar:
        progress = workspace.watched(bar, "pull")
        pulled = transfer.pull(at(uri), to_dir or workspace.data_dir, names=names, listing=listing, progress=progress)
    workspace.console.info(
        f"Pulled {pulled.num_objects} objects, {pulled.num_bytes / 1e6:.1f} MB, {pulled.num_fetched} of them now.",
        objects=pulled.num_objects,
        bytes=pulled.num_bytes,
    )


def _unpack(workspace: Workspace, path: Path) -> None:
    """Unpacks an archive under a bar of its own; whoever locates the data later finds it done."""
    layout = workspace.config.data.layout
    if not layouts.is_archive(path, layout):
        return
    with workspace.timings.stage("unpack"), workspace.bar("unpack", unit="MB") as bar:
        hook = workspace.watched(bar, "unpack")

        def in_megabytes(done_bytes: int, total_bytes: int) -> None:
            hook(math.ceil(done_bytes / 1e6), math.ceil(total_bytes / 1e6))

        layouts.locate(path, layout, work_dir=workspace.cache_dir, on_progress=in_megabytes)


def pull_named_images(workspace: Workspace, local_path: Path) -> dict[str, Path]:
    """Returns the local copy of each image that a manifest names by its full URI."""
    uris = layouts.remote_images(local_path, workspace.config.data.layout, work_dir=workspace.cache_dir)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        folder, name = split(uri)
        by_folder[folder].append(name)
    local: dict[str, Path] = {}
    if by_folder:
        with workspace.timings.stage("pull"), workspace.bar("pull", unit="images") as bar:
            hook = workspace.watched(bar, "pull")
            for folder, names in by_folder.items():
                to_dir = workspace.data_dir.parent / "images" / slug(folder)
                transfer.pull(at(folder), to_dir, names=names)
                local |= {f"{folder}/{name}": to_dir / name for name in names}
                hook(len(local), len(uris))
    return local
