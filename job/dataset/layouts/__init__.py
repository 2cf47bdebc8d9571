"""How datasets are laid out: one file a layout, one row of `LAYOUTS` each.

    read(path)            the examples: what is there, with which label, in which split
    reader(path)          the bytes of an example's image
    remote_images(path)   what a manifest names in buckets and has to be downloaded

All take the dataset's folder (or its one file) and a layout's name, or "auto". An archive is unpacked
and then looked at like a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.dataset.example import Example
from job.dataset.layouts import archive, csv_manifest, image_folder, jsonl_manifest, tfrecord
from job.dataset.layouts.vocabulary import check_labels
from job.dataset.reading import FileReader, Reader, UnreadableRecordError, is_full_uri
from job.errors import DatasetError, InputMissingError

__all__ = [
    "LAYOUTS",
    "Layout",
    "Reader",
    "UnreadableRecordError",
    "images_beside",
    "is_archive",
    "is_full_uri",
    "is_one_file",
    "locate",
    "read",
    "reader",
    "remote_images",
    "shards_among",
]


def _files(root: Path, local: Mapping[str, Path], follow_links: bool) -> Reader:
    return FileReader(root.parent if root.is_file() else root, dict(local), follow_links)


@dataclass(frozen=True, slots=True)
class Layout:
    """One row of the table.

    Attributes:
        recognise: Whether the dataset's folder or file is laid out this way.
        read: Returns the examples, or raises a DatasetError.
        reader: Returns the reader; takes the local path of each image that was downloaded by its URI, and whether
            links may lead out of the folder.
    """

    recognise: Callable[[Path], bool]
    read: Callable[[Path], list[Example]]
    reader: Callable[[Path, Mapping[str, Path], bool], Reader] = _files


LAYOUTS: Final[Mapping[str, Layout]] = {
    "tfrecord": Layout(tfrecord.recognise, tfrecord.read, tfrecord.reader),
    "jsonl": Layout(jsonl_manifest.recognise, jsonl_manifest.read),
    "csv": Layout(csv_manifest.recognise, csv_manifest.read),
    "image_folder": Layout(image_folder.recognise, image_folder.read),
}
"""In the order in which `auto` tries them: a manifest beside image folders is what the user means."""


def is_archive(path: Path, layout: str = "auto") -> bool:
    """Says whether `locate` has something to unpack, now or before."""
    return layout in ("auto", "archive") and (path.is_file() or path.is_dir()) and archive.find(path) is not None


def locate(
    path: Path, layout: str = "auto", *, work_dir: Path, on_progress: archive.Progress | None = None
) -> tuple[Path, str]:
    """Returns where the dataset lies and the name of its layout, a row of `LAYOUTS`.

    Args:
        layout: A row's name, "archive" or "auto".
        work_dir: Archives are unpacked in here, once.
        on_progress: Takes bytes unpacked and in all.

    Raises:
        InputMissingError: When there is nothing at `path`.
        DatasetError: When it is a pipe or device; when "archive" was asked for and there is none, or it cannot be
            unpacked.
    """
    if not path.exists():
        raise InputMissingError(f"There is no dataset at {str(path)!r}.", next_step="Check data.uri.")
    if not (path.is_file() or path.is_dir()):  # to open it would be to wait for ever
        raise DatasetError(
            f"The dataset {str(path)!r} is a pipe, socket or device; a folder or a file is read.",
            next_step="Check data.uri; what comes through a pipe has to be written to a file first.",
        )
    if layout in ("auto", "archive"):
        found = archive.find(path)
        if found is None and layout == "archive":
            raise DatasetError(
                f"data.layout is archive, but {path.name!r} is or holds no single {', '.join(archive.EXTENSIONS)}.",
                next_step="Set data.layout to auto, or point data.uri at the archive.",
            )
        if found is not None:
            path, layout = archive.unpack(found, work_dir, on_progress=on_progress), "auto"
    if layout == "auto":
        layout = next((name for name, row in LAYOUTS.items() if row.recognise(path)), "image_folder")
    return path, layout


def read(path: Path, layout: str = "auto", *, work_dir: Path, index: tfrecord.Index | None = None) -> list[Example]:
    """Returns every example of the dataset, each uri once; see `locate` for the arguments.

    Args:
        index: Of all TFRecord shards, where not all of them are there.

    Raises:
        InputMissingError: When there is nothing at `path`.
        DatasetError: When it is not laid out as it should be, or holds no images. Names what is wrong.
    """
    root, name = locate(path, layout, work_dir=work_dir)
    examples = LAYOUTS[name].read(root) if index is None else tfrecord.examples(root, index)
    if not examples:
        raise DatasetError(
            f"The dataset {path.name!r} (layout {name}) lists no images.", next_step="Check data.uri and data.layout."
        )
    check_labels(examples)
    return examples


def reader(
    path: Path,
    layout: str = "auto",
    *,
    work_dir: Path,
    local: Mapping[str, Path] | None = None,
    follow_links: bool = False,
    index: tfrecord.Index | None = None,
) -> Reader:
    """Returns what reads the images of `read`'s examples; thread-safe, and picklable for worker processes.

    Args:
        local: Where each image of `remote_images` was downloaded to.
        follow_links: Whether an image may be a link that leads out of the dataset's folder.
        index: As `read` took it.
    """
    root, name = locate(path, layout, work_dir=work_dir)
    if index is not None:
        return tfrecord.reader_of(root, index)
    return LAYOUTS[name].reader(root, local or {}, follow_links)


def is_one_file(uri: str) -> bool:
    """Whether a dataset's URI, by its name alone, is an archive, a table or a list of images and no folder."""
    return uri.lower().endswith((*archive.EXTENSIONS, *csv_manifest.EXTENSIONS, *jsonl_manifest.EXTENSIONS))


def shards_among(names: Iterable[str], layout: str = "auto") -> list[str]:
    """Returns which files of a folder are TFRecord shards, by their names, in the order of `read`; if asked for."""
    return tfrecord.among(names) if layout in ("auto", "tfrecord") else []


def images_beside(path: Path, layout: str = "auto", *, work_dir: Path) -> list[str]:
    """Returns the images that a manifest, given as one file, names relative to itself; none for other files."""
    root, name = locate(path, layout, work_dir=work_dir)
    if name not in ("csv", "jsonl") or root != path:
        return []
    uris = (example.uri for example in read(root, name, work_dir=work_dir))
    return [uri for uri in uris if not is_full_uri(uri) and not uri.startswith("file://")]


def remote_images(path: Path, layout: str = "auto", *, work_dir: Path) -> list[str]:
    """Returns the full URIs among the dataset's images, in its order; they are to be downloaded first."""
    if path.is_dir() and locate(path, layout, work_dir=work_dir)[1] == "image_folder":
        return []
    return [example.uri for example in read(path, layout, work_dir=work_dir) if is_full_uri(example.uri)]
