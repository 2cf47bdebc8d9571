"""Images in one folder a class: `<class>/*.jpg`, or `train/<class>/*.jpg` beside `validation/` and `test/`.

A single folder around all of it is looked through, as archives usually have one. Folders inside a
class folder belong to the class; a link is what it leads to, but a link to a folder is followed only where the class
folder itself is one, so that no links go round in circles.
"""

from __future__ import annotations

import os
from pathlib import Path

from job.dataset.example import Example, Split
from job.dataset.layouts.vocabulary import SPLIT_WORDS, is_image_file, is_litter, spelled, spelling, split_of
from job.dataset.reading import as_text
from job.errors import DatasetError


def recognise(root: Path) -> bool:
    """Says whether `root` is a folder with folders in it."""
    return root.is_dir() and bool(_folders(root))


def read(root: Path) -> list[Example]:
    """Returns every image below the class folders, sorted by class and name.

    Raises:
        DatasetError: Without class folders, with an empty one, or with a folder beside train/ that is no split.
    """
    if not root.is_dir():
        raise DatasetError(
            f"The layout image_folder needs a folder, but {root.name!r} is a file.",
            next_step="Give the folder that holds the class folders, or set data.layout to what the file is.",
        )
    top = _inside_wrapper(root)
    splits = _split_folders(top)
    if not splits:
        return _classes(root, top, None)
    return [example for folder, split in splits for example in _classes(root, folder, split)]


def _inside_wrapper(root: Path) -> Path:
    while True:
        folders = _folders(root)
        if len(folders) != 1 or split_of(folders[0].name) or not _folders(folders[0]) or _images_in(root):
            return root
        root = folders[0]


def _split_folders(top: Path) -> list[tuple[Path, Split]]:
    folders = _folders(top)
    splits = [(folder, split) for folder in folders if (split := split_of(folder.name)) and _folders(folder)]
    if not splits:
        return []
    strangers = [folder.name for folder in folders if folder not in dict(splits)]
    if strangers:
        raise DatasetError(
            f"Beside {', '.join(f'{folder.name}/' for folder, _ in splits)} stands {strangers[0]!r}, which is no split "
            f"with class folders; a split is called {', '.join(SPLIT_WORDS)}.",
            next_step=f"Rename, move or remove the folder {strangers[0]!r}.",
        )
    return splits


def _classes(root: Path, top: Path, split: Split | None) -> list[Example]:
    folders = _folders(top)
    shown = top.relative_to(root).as_posix() if top != root else root.name
    if not folders:
        raise DatasetError(
            f"The folder {shown!r} has no class folders; it holds {len(_images_in(top))} image(s) itself. "
            "The layout image_folder needs one folder a class, with the class's images in it.",
            next_step="Sort the images into one folder a class, or add a manifest, labels.csv (image,label).",
        )
    examples: list[Example] = []
    for folder in folders:
        label, written = spelled(folder.name), spelling(folder.name)
        below = folder.relative_to(root).as_posix()
        found = [Example(as_text(f"{below}/{name}"), label, split, written) for name in _images_below(folder)]
        if not found:
            raise DatasetError(
                f"The class folder {folder.relative_to(root).as_posix()!r} has no images; a class needs at least 2.",
                next_step="Put images into the folder, or remove it.",
            )
        examples.extend(found)
    return examples


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(folder, path.name))


def _images_below(folder: Path) -> list[str]:
    """Returns their names from the folder on."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        inner = parent[len(str(folder)) :].lstrip("/")
        prefix = f"{inner}/" if inner else ""
        found.extend(prefix + name for name in sorted(files) if is_image_file(parent, name))
    return found
