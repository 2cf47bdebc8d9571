"""Of a dataset in buckets, this machine's share: first what says which images there are, then its own of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from job.dataset import layouts, shards
from job.dataset.layouts import tfrecord
from job.dataset.layouts.vocabulary import IMAGE_EXTENSIONS
from job.dataset.remote import Object, Remote, leave_out
from job.dataset.shares import Share
from job.stages import pull
from job.storage import ObjectInfo, Store, at, local_path, split, transfer
from job.workspace import Workspace


@dataclass(frozen=True, eq=False)
class _Folder:
    """Objects of one store, what each is called in the dataset, and the folder that they go to.

    Attributes:
        is_all: Whether these are all that may be in that folder.
    """

    store: Store
    to_dir: Path
    infos: Mapping[str, ObjectInfo]
    is_all: bool = False

    def pull(self, infos: Sequence[ObjectInfo], progress: transfer.Progress) -> transfer.Pulled:
        if not self.is_all:
            return transfer.pull(self.store, self.to_dir, objects=infos, progress=progress)
        names, listing = [info.name for info in infos], list(self.infos.values())
        return transfer.pull(self.store, self.to_dir, names=names, listing=listing, progress=progress)

    def objects(self) -> dict[str, Object]:
        return {uri: Object(self.store, info, self.to_dir / info.name) for uri, info in self.infos.items()}


def dataset(workspace: Workspace, share: Share) -> tuple[Path, Share, Remote]:
    """As `pull.dataset`; of images in buckets only those of this machine's share, and what gives the others.

    What is no image by its name, such as manifests and archives, is pulled whole: it says which images there are. Of
    TFRecord shards each machine pulls a run, where there are as many as machines.

    Returns:
        The local path, the share (of whole shards, its rows are known by now), and the rest.
    """
    uri = workspace.config.data.uri
    assert uri is not None
    if local_path(uri) is not None:
        return _images(workspace, share, pull.dataset(workspace), [])
    if at(uri).stat("") is not None:
        path = pull.one_file(workspace, uri)
        beside = layouts.images_beside(path, workspace.config.data.layout, work_dir=workspace.cache_dir)
        folders = [_described(workspace, split(uri)[0], beside, workspace.data_dir, prefix="")] if beside else []
        return _images(workspace, share, path, folders)
    return _folder(workspace, share, uri)


def _folder(workspace: Workspace, share: Share, uri: str) -> tuple[Path, Share, Remote]:
    layout = workspace.config.data.layout
    # Apart from what `pull` makes, which is whole.
    to_dir = workspace.data_dir.with_name(f"{workspace.data_dir.name}-share")
    folder = _Folder(at(uri), to_dir, {info.name: info for info in transfer.listed(at(uri))}, is_all=True)
    images = [name for name in folder.infos if Path(name).suffix.lower() in IMAGE_EXTENSIONS]
    shard_names = layouts.shards_among(folder.infos, layout)
    if len(shard_names) < share.num_workers:
        shard_names = []
    partly = {*images, *shard_names}
    _pull(workspace, {folder: [info for name, info in folder.infos.items() if name not in partly]})
    leave_out(to_dir, partly, folder.infos)
    if layouts.is_archive(to_dir, layout):
        pull.unpack(workspace, to_dir)
        return _images(workspace, share, to_dir, [])
    if not shard_names:
        return _images(workspace, share, to_dir, [folder])
    mine = shard_names[shards.mine(share, len(shard_names))]
    _pull(workspace, {folder: [folder.infos[name] for name in mine]})
    share, index = shards.agreed(share, to_dir, {name: folder.infos[name].version for name in shard_names})
    objects = folder.objects()
    records = {one: objects[name] for name in index for one in tfrecord.uris(name, index[name])}
    return to_dir, share, Remote(records, [one for name in mine for one in tfrecord.uris(name, index[name])], index)


def _images(workspace: Workspace, share: Share, path: Path, folders: list[_Folder]) -> tuple[Path, Share, Remote]:
    """Pulls the share of the images that lie in `folders`, or that a manifest at `path` names by their full URIs."""
    examples = layouts.read(path, workspace.config.data.layout, work_dir=workspace.cache_dir)
    uris = [example.uri for example in examples]
    for folder, names in pull.by_folder(filter(layouts.is_full_uri, uris)).items():
        to_dir = pull.images_dir(workspace, folder)
        folders.append(_described(workspace, folder, names, to_dir, prefix=f"{folder}/"))
    mine = {uris[row] for row in share.rows(len(uris))}
    _pull(workspace, {each: [info for uri, info in each.infos.items() if uri in mine] for each in folders})
    objects = {uri: each for folder in folders for uri, each in folder.objects().items()}
    return path, share, Remote(objects, mine & objects.keys())


def _described(workspace: Workspace, uri: str, names: Sequence[str], to_dir: Path, *, prefix: str) -> _Folder:
    """Returns objects of which all machines ask the bucket for all: the version of each is what is surveyed."""
    infos = transfer.described(at(uri), names, progress=lambda *_: workspace.stop.check("pull"))
    return _Folder(at(uri), to_dir, {f"{prefix}{info.name}": info for info in infos})


def _pull(workspace: Workspace, wanted: Mapping[_Folder, Sequence[ObjectInfo]]) -> None:
    """Pulls so much of each folder, under one bar."""
    if not wanted:
        return
    total, done = sum(map(len, wanted.values())), 0
    pulled = []
    with workspace.timings.stage("pull"), workspace.bar("pull", unit="objects") as bar:
        hook = workspace.watched(bar, "pull")

        def after(first: int) -> transfer.Progress:
            return lambda num, _: hook(first + num, total)

        for folder, infos in wanted.items():
            pulled.append(folder.pull(infos, after(done)))
            done += len(infos)
    num_bytes = sum(each.num_bytes for each in pulled)
    workspace.console.info(
        f"Pulled {total} objects, {num_bytes / 1e6:.1f} MB, {sum(each.num_fetched for each in pulled)} of them now.",
        objects=total,
        bytes=num_bytes,
    )
