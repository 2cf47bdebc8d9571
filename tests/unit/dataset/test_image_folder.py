"""Class folders, with and without splits, and what is wrong with others."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from job.dataset.example import Example, Split
from job.dataset.layouts import image_folder
from job.errors import DatasetError

MakeFolder = Callable[..., Path]


def test_the_folder_is_the_class_and_order_is_by_name(make_folder: MakeFolder) -> None:
    root = make_folder("dog/2.jpg", "dog/1.png", "cat/9.png", "cat/deep/er/1.JPG")
    assert image_folder.read(root) == [
        Example("cat/9.png", "cat"),
        Example("cat/deep/er/1.JPG", "cat"),
        Example("dog/1.png", "dog"),
        Example("dog/2.jpg", "dog"),
    ]


@pytest.mark.parametrize("name", ["validation", "val", "valid", "Validation"])
def test_split_folders_may_be_spelt_as_people_do(make_folder: MakeFolder, name: str) -> None:
    root = make_folder("train/cat/1.png", f"{name}/cat/2.png", "test/cat/3.png")
    splits = {example.uri: example.split for example in image_folder.read(root)}
    assert splits == {
        "train/cat/1.png": Split.TRAIN,
        f"{name}/cat/2.png": Split.VALIDATION,
        "test/cat/3.png": Split.TEST,
    }


def test_one_folder_around_everything_is_looked_through(make_folder: MakeFolder) -> None:
    root = make_folder("flowers/train/iris/1.png", "flowers/test/iris/2.png")
    assert [example.split for example in image_folder.read(root)] == [Split.TEST, Split.TRAIN]


def test_hidden_files_litter_and_sidecars_are_not_images(make_folder: MakeFolder) -> None:
    root = make_folder("cat/1.png", "cat/hashed_name_without_extension", ".git/x.png", "__MACOSX/cat/1.png")
    for name in (".DS_Store", "Thumbs.db", "._1.png", "notes.txt", "1.json", "README"):
        (root / "cat" / name).write_bytes(b"not an image")
    assert [example.uri for example in image_folder.read(root)] == ["cat/1.png", "cat/hashed_name_without_extension"]


def test_a_broken_file_with_an_image_extension_is_kept_for_the_survey_to_judge(make_folder: MakeFolder) -> None:
    root = make_folder("cat/1.png")
    (root / "cat/2.jpg").write_bytes(b"<html>404</html>")
    assert len(image_folder.read(root)) == 2


def test_one_class_written_in_two_unicode_forms_is_one_class(make_folder: MakeFolder) -> None:
    root = make_folder(
        f"{unicodedata.normalize('NFD', 'café')}/1.png", f"{unicodedata.normalize('NFC', 'café')} /2.png"
    )
    assert {example.label for example in image_folder.read(root)} == {"café"}


def test_a_linked_class_folder_is_followed(make_folder: MakeFolder) -> None:
    elsewhere = make_folder("1.png", root="elsewhere")
    root = make_folder("cat/1.png")
    (root / "dog").symlink_to(elsewhere, target_is_directory=True)
    assert [example.label for example in image_folder.read(root)] == ["cat", "dog"]


def test_a_folder_without_class_folders_says_what_it_holds(make_folder: MakeFolder) -> None:
    with pytest.raises(DatasetError, match=r"'data' has no class folders; it holds 2 image\(s\)") as error:
        image_folder.read(make_folder("1.png", "2.png"))
    assert error.value.exit_code == 65
    assert "labels.csv" in error.value.next_step


def test_an_empty_class_folder_is_named(make_folder: MakeFolder) -> None:
    root = make_folder("train/cat/1.png")
    (root / "train/dog").mkdir()
    with pytest.raises(DatasetError, match="'train/dog' has no images"):
        image_folder.read(root)


def test_a_folder_beside_the_splits_that_is_no_split_is_named(make_folder: MakeFolder) -> None:
    root = make_folder("train/cat/1.png", "test/cat/1.png", "extra/cat/1.png")
    with pytest.raises(DatasetError, match="'extra', which is no split") as error:
        image_folder.read(root)
    assert "validation" in error.value.message


def test_a_file_is_no_image_folder(make_folder: MakeFolder) -> None:
    with pytest.raises(DatasetError, match="needs a folder"):
        image_folder.read(make_folder("1.png") / "1.png")
