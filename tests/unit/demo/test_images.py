"""The demo's pictures: repeatable, of all classes, with the odd files that the docstring promises."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from job.demo import images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    images.write_dataset(folder, per_class=3, seed=5)
    return folder


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_seed_writes_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    images.write_dataset(tmp_path, per_class=3, seed=5)
    assert _digests(tmp_path) == _digests(dataset)


def test_another_seed_writes_other_pictures(dataset: Path, tmp_path: Path) -> None:
    images.write_dataset(tmp_path, per_class=3, seed=6)
    notes = "dent/dent-notes.jpg"
    same = [path for path, digest in _digests(tmp_path).items() if _digests(dataset)[path] == digest]
    assert same == [notes]


def test_a_picture_does_not_depend_on_how_many_were_drawn_before() -> None:
    alone = images.render("stain", 7, seed=1, size_px=96)
    for index in range(7):
        images.render("stain", index, seed=1, size_px=96)
    assert images.render("stain", 7, seed=1, size_px=96).tobytes() == alone.tobytes()


def test_every_class_has_its_pictures_and_the_odd_files(dataset: Path) -> None:
    assert images.CLASSES == ("crack", "dent", "hole", "scratch", "stain")
    assert sorted(path.name for path in dataset.iterdir()) == list(images.CLASSES)
    for name in images.CLASSES:
        good = {f"{name}/{name}-{index:04d}.jpg" for index in range(3)}
        odd = {path for path in images.ODD_FILES if path.startswith(f"{name}/")}
        assert {f"{name}/{path.name}" for path in (dataset / name).iterdir()} == good | odd
        assert len(odd) == 1


def test_all_good_files_are_distinct_rgb_jpegs_of_the_promised_sizes(dataset: Path) -> None:
    seen = set()
    for path in dataset.rglob("*-0*.jpg"):
        with Image.open(path) as picture:
            picture.load()
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert picture.size[0] == picture.size[1]
            assert 112 <= picture.size[0] <= 160
            assert np.asarray(picture).std() > 5
        seen.add(path.read_bytes())
    assert len(seen) == 15


def test_two_pictures_of_a_class_differ_visibly() -> None:
    for name in images.CLASSES:
        first, second = (np.asarray(images.render(name, i, seed=2, size_px=96), np.int16) for i in (0, 1))
        assert np.abs(first - second).mean() > 5


def test_the_truncated_file_opens_as_jpeg_and_fails_to_decode(dataset: Path) -> None:
    with Image.open(dataset / "crack/crack-truncated.jpg") as picture:
        assert picture.format == "JPEG"
        with pytest.raises(OSError, match="truncated"):
            picture.load()


def test_the_notes_are_no_image(dataset: Path) -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(dataset / "dent/dent-notes.jpg")


def test_the_screenshot_is_a_png_that_decodes(dataset: Path) -> None:
    with Image.open(dataset / "hole/hole-screenshot.jpg") as picture:
        assert picture.format == "PNG"
        picture.load()


def test_the_lying_picture_is_upright_after_its_exif_orientation(dataset: Path) -> None:
    drawn = np.asarray(images.render("scratch", 3, seed=5, size_px=128), np.float32)
    with Image.open(dataset / "scratch/scratch-upright.jpg") as picture:
        lying, upright = np.asarray(picture, np.float32), np.asarray(ImageOps.exif_transpose(picture), np.float32)
    assert np.abs(upright - drawn).mean() < 6  # what JPEG costs
    assert np.abs(lying - drawn).mean() > 12


def test_the_copy_is_byte_for_byte_the_first_stain(dataset: Path) -> None:
    assert (dataset / "stain/stain-copy.jpg").read_bytes() == (dataset / "stain/stain-0000.jpg").read_bytes()


def test_new_images_are_named_by_their_class_and_in_no_dataset(dataset: Path, tmp_path: Path) -> None:
    paths = images.write_new_images(tmp_path)
    assert [path.name for path in paths] == ["new-1-crack.jpg", "new-2-hole.jpg", "new-3-stain.jpg"]
    assert not set(_digests(tmp_path).values()) & set(_digests(dataset).values())
    for path in paths:
        Image.open(io.BytesIO(path.read_bytes())).load()


def test_five_new_images_show_all_five_classes(tmp_path: Path) -> None:
    paths = images.write_new_images(tmp_path, num=5)
    assert {path.stem.split("-")[2] for path in paths} == set(images.CLASSES)


def test_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'rust'; allowed: crack, dent, hole, scratch, stain"):
        images.render("rust", 0, seed=0, size_px=96)
