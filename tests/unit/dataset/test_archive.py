"""Archives of a dataset, whole and hostile."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from job.dataset import layouts
from job.dataset.layouts import archive
from job.errors import DatasetError, InputMissingError

MakeFolder = Callable[..., Path]


def zipped(path: Path, *names: str, data: bytes = b"data") -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name in names:
            out.writestr(name, data)
    return path


def tarred(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as out:
        for member in members:
            out.addfile(member, io.BytesIO(bytes(member.size)))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_an_archive_is_the_dataset_inside_it(tmp_path: Path, make_folder: MakeFolder, name: str) -> None:
    folder = make_folder("flowers/train/iris/1.png", "flowers/train/rose/1.png", "flowers/test/iris/2.png")
    path = tmp_path / name
    if name == "x.zip":
        with zipfile.ZipFile(path, "w") as out:
            for file in sorted(folder.rglob("*")):
                out.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as out:
            out.add(folder, ".")
    progress: list[tuple[int, int]] = []
    root, layout = layouts.locate(path, work_dir=tmp_path / "w", on_progress=lambda *at: progress.append(at))
    assert layout == "image_folder"
    assert layouts.read(root, layout, work_dir=tmp_path) == layouts.read(folder, work_dir=tmp_path)
    assert progress[-1][0] == progress[-1][1]
    before = root.stat().st_ino
    assert layouts.locate(path, work_dir=tmp_path / "w")[0].stat().st_ino == before, "it was unpacked twice"


def test_the_only_archive_in_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    zipped(tmp_path / "data/x.zip", "cat/1.png", "dog/1.png")
    (tmp_path / "data/.pulled.json").write_text("{}")
    examples = layouts.read(tmp_path / "data", "archive", work_dir=tmp_path / "w")
    assert [example.label for example in examples] == ["cat", "dog"]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_left(tmp_path: Path, name: str, form: str) -> None:
    made = zipped if form == "zip" else lambda path, *names: tarred(path, *map(tarfile.TarInfo, names))
    path = made(tmp_path / f"x.{form}", "cat/1.png", name)
    with pytest.raises(DatasetError, match="leads out of its folder") as error:
        archive.unpack(path, tmp_path / "deep" / "w")
    assert name in error.value.message.replace("\\\\", "\\")
    assert not list((tmp_path / "deep" / "w").iterdir())
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("cat/1.png")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(DatasetError, match=r"'cat/1\.png', a link or device"):
        archive.unpack(tarred(tmp_path / "x.tar", member), tmp_path / "w")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("cat/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        out.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="a link or device"):
        archive.unpack(tmp_path / "x.zip", tmp_path / "w")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "x.zip":
        zipped(path, "cat/1.png", data=b"damaged" * 99)
        path.write_bytes(path.read_bytes().replace(b"damaged", b"DAMAGED", 1))
    else:
        with tarfile.open(path, "w:gz") as out:
            out.addfile(tarfile.TarInfo("cat/1.png"))
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        archive.unpack(path, tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


def test_several_archives_are_named(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", "cat/1.png")
    zipped(tmp_path / "b.zip", "cat/1.png")
    with pytest.raises(DatasetError, match=r"a\.zip, b\.zip"):
        archive.find(tmp_path)


def test_what_is_not_there_and_what_is_no_archive_is_said(tmp_path: Path, make_folder: MakeFolder) -> None:
    with pytest.raises(InputMissingError, match="There is no dataset"):
        layouts.read(tmp_path / "nowhere", work_dir=tmp_path)
    with pytest.raises(DatasetError, match=r"data\.layout is archive"):
        layouts.read(make_folder("cat/1.png"), "archive", work_dir=tmp_path)


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_an_asked_for_layout_that_is_not_there_is_said(tmp_path: Path, make_folder: MakeFolder, name: str) -> None:
    with pytest.raises(DatasetError, match=r"exactly one manifest .* found: none"):
        layouts.read(make_folder("cat/1.png"), name, work_dir=tmp_path)


def test_a_dataset_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="lists no images"):
        layouts.read(tmp_path, work_dir=tmp_path)
