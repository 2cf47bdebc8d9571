"""Datasets that are wrong by accident or on purpose: every one ends in a verdict or an error that says what to do."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from job.config import DataConfig
from job.dataset import layouts, survey, table
from job.dataset.examine import Examiner
from job.dataset.example import Example, Row, Verdict
from job.dataset.layouts import archive, csv_manifest, image_folder, jsonl_manifest
from job.dataset.layouts.vocabulary import alike_labels
from job.dataset.prepare import Dataset, prepare
from job.dataset.reading import FileReader, as_file_name, as_text
from job.errors import DatasetError, InputMissingError

Encode = Callable[..., bytes]
MakeFolder = Callable[..., Path]


def prepared(data: Path, work: Path, **settings: object) -> Dataset:
    config = DataConfig.model_validate({"max_bad": 1.0, **settings})
    return prepare(config, dataset_dir=data, work_dir=work, stored_px=12, seed=0)


def surveyed(folder: Path, *uris: str) -> list[Row]:
    examples = [Example(uri, "cat") for uri in uris]
    reader = FileReader(folder)
    found = survey.look(examples, Examiner(reader, 8, DataConfig().max_megapixels, 12))
    return survey.rows_of(examples, found, reader)


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A black and white PNG that claims a size; `pixels` are compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


# --- images


def test_a_decompression_bomb_is_too_large_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000, bytes(20_000 * 2501)))
    assert (tmp_path / "bomb.png").stat().st_size < 100_000, "400 megapixels in a few bytes"
    (row,) = surveyed(tmp_path, "bomb.png")
    assert (row.verdict, row.reason) == (
        Verdict.TOO_LARGE,
        "400.0 megapixels; at most 100 (data.max_megapixels)",
    )


@pytest.mark.parametrize(
    ("width", "height", "verdict"),
    [
        (1_000_000, 1, Verdict.TOO_SMALL),
        (1, 1_000_000, Verdict.TOO_SMALL),
        (0, 0, Verdict.CORRUPT),
        (2**31 - 1, 2**31 - 1, Verdict.TOO_LARGE),
        (2**31 - 1, 8, Verdict.TOO_LARGE),
        (2**32 - 1, 2**32 - 1, Verdict.TOO_LARGE),
        (12_000_000, 8, Verdict.TRUNCATED),
    ],
)
def test_absurd_dimensions_are_a_verdict(tmp_path: Path, width: int, height: int, verdict: Verdict) -> None:
    (tmp_path / "absurd.png").write_bytes(png(width, height, b"\0"))
    (row,) = surveyed(tmp_path, "absurd.png")
    assert row.verdict is verdict
    assert row.reason


def test_a_bmp_of_negative_size_is_too_large(tmp_path: Path, encoded: Encode) -> None:
    data = bytearray(encoded(form="BMP"))
    data[18:26] = struct.pack("<ii", -24, -(2**31))
    (tmp_path / "a.bmp").write_bytes(data)
    assert surveyed(tmp_path, "a.bmp")[0].verdict is Verdict.TOO_LARGE


def test_a_file_of_no_bytes_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (row,) = surveyed(tmp_path, "empty.jpg")
    assert (row.verdict, row.reason) == (Verdict.NOT_AN_IMAGE, "the file is empty")


def test_a_file_of_two_gigabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2 << 30)
    (row,) = surveyed(tmp_path, "huge.jpg")
    assert (row.verdict, row.reason) == (Verdict.TOO_LARGE, "the file has 2.1 GB; at most 1.1")
    assert (row.sha256, row.size_bytes) == ("", 0)


# --- folders, links, pipes


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder("cat/1.png", "cat/x.jpg/2.png", "dog/3.png")
    (root / "dog/y.jpg").mkdir()
    assert [example.uri for example in image_folder.read(root)] == ["cat/1.png", "cat/x.jpg/2.png", "dog/3.png"]
    (row,) = surveyed(root, "dog/y.jpg")
    assert (row.verdict, row.reason) == (Verdict.MISSING, "is a folder, pipe or device, not a file")


def test_links_out_of_the_folder_are_outside_and_those_to_nothing_are_named(
    tmp_path: Path, make_folder: MakeFolder
) -> None:
    root = make_folder("cat/1.png", "cat/2.png", "dog/3.png")
    elsewhere = make_folder("image.png", root="elsewhere")
    (tmp_path / "secret").write_text("user:password")
    (root / "dog/linked.png").symlink_to(elsewhere / "image.png")
    (root / "dog/secret.png").symlink_to(tmp_path / "secret")
    (root / "dog/inside.png").symlink_to(root / "cat/1.png")
    (root / "dog/climbing.png").symlink_to("../../elsewhere/image.png")
    (root / "dog/twice.png").symlink_to(root / "dog/linked.png")
    (root / "dog/folder").symlink_to(elsewhere, target_is_directory=True)
    (root / "dog/dangling.png").symlink_to(tmp_path / "nowhere")
    (root / "dog/itself.png").symlink_to(root / "dog/itself.png")
    uris = [*(example.uri for example in image_folder.read(root)), "dog/folder/image.png"]
    rows = {row.uri.removeprefix("dog/"): row for row in surveyed(root, *uris)}
    for name in ("linked.png", "climbing.png", "twice.png", "folder/image.png"):
        reason = f"a link that leads out of the data folder, to {elsewhere}/image.png; data.follow_links=true reads it"
        assert (rows[name].verdict, rows[name].reason, rows[name].sha256) == (Verdict.OUTSIDE, reason, "")
    assert rows["secret.png"].verdict is Verdict.OUTSIDE
    assert "user:pas" not in rows["secret.png"].reason, "nothing of what it holds is told"
    assert rows["inside.png"].verdict is Verdict.OK
    assert rows["dangling.png"].reason == "there is no such file"
    assert rows["itself.png"].verdict is Verdict.MISSING


def test_links_out_of_the_folder_are_read_where_that_was_asked_for(tmp_path: Path, make_folder: MakeFolder) -> None:
    # Pictures are numbered by their place: the first six are those of the dogs, too.
    elsewhere = make_folder(*(f"cat-{number}.png" for number in range(-6, 6)), root="all")
    dogs = make_folder(*(f"{number}.png" for number in range(20, 26)), root="dogs")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    for number in range(6):
        (tmp_path / "data" / "cat" / f"{number}.png").symlink_to(elsewhere / f"cat-{number}.png")
    (tmp_path / "data" / "dog").symlink_to(dogs, target_is_directory=True)
    with pytest.raises(
        DatasetError, match=r"(?s)12 outside.*cat/0\.png: outside, a link .* data\.follow_links"
    ) as refused:
        prepared(tmp_path / "data", tmp_path / "w", max_bad=0.5)
    assert refused.value.exit_code == 65
    followed = prepared(tmp_path / "data", tmp_path / "w", max_bad=0.0, follow_links=True)
    assert {row.verdict for row in followed.rows} == {Verdict.OK}


def test_a_data_folder_that_is_a_link_itself_is_read(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder(*(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5)))
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert {row.verdict for row in prepared(tmp_path / "link", tmp_path / "w", max_bad=0.0).rows} == {Verdict.OK}


@pytest.mark.parametrize("name", ["../elsewhere/1.png", "linked.png"])
def test_a_manifest_reaches_out_of_its_folder_by_full_names_alone(
    tmp_path: Path, make_folder: MakeFolder, name: str
) -> None:
    elsewhere = make_folder("1.png", root="elsewhere")
    root = make_folder(*(f"{number}.png" for number in range(8)))
    (root / "linked.png").symlink_to(elsewhere / "1.png")
    rows = [f"{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(8)]
    csv_of(root, "\n".join(["image,label", *rows, f"{name},cat"]))
    if name == "linked.png":
        outside = [row for row in prepared(root, tmp_path / "w").rows if row.verdict is not Verdict.OK]
        assert [(row.uri, row.verdict) for row in outside] == [("linked.png", Verdict.OUTSIDE)]
    else:
        with pytest.raises(DatasetError, match="lies outside the manifest's folder"):
            prepared(root, tmp_path / "w")
    csv_of(root, "\n".join(["image,label", *rows, f"{(root / 'linked.png').as_uri()},cat"]))
    assert {row.verdict for row in prepared(root, tmp_path / "w").rows} == {Verdict.OK}


def test_links_that_go_round_in_circles_end(make_folder: MakeFolder) -> None:
    root = make_folder("cat/1.png", "dog/2.png")
    (root / "cat/loop").symlink_to(root, target_is_directory=True)
    (root / "dog/up").symlink_to(root / "dog", target_is_directory=True)
    assert [example.uri for example in image_folder.read(root)] == ["cat/1.png", "dog/2.png"]


def test_a_pipe_a_socket_and_a_device_are_not_opened(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder("cat/1.png", "dog/2.png")
    monkeypatch.chdir(root / "cat")  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
    os.mkfifo(root / "cat/pipe.jpg")
    os.mkfifo(root / "cat/pipe")
    (root / "cat/zero.jpg").symlink_to("/dev/zero")
    uris = [example.uri for example in image_folder.read(root)]
    assert uris == ["cat/1.png", "cat/pipe.jpg", "cat/socket.jpg", "cat/zero.jpg", "dog/2.png"]
    verdicts = [row.verdict for row in surveyed(root, *uris)]
    assert verdicts == [Verdict.OK, *[Verdict.MISSING] * 3, Verdict.OK]


@pytest.mark.parametrize("name", ["data", "data/labels.csv", "data/labels.jsonl", "data/a.tfrecord", "data/a.zip"])
def test_a_pipe_in_place_of_the_data_or_of_its_one_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "data"):
        for layout in ("auto", "csv", "jsonl", "tfrecord", "image_folder"):
            with pytest.raises((DatasetError, InputMissingError)) as error:
                prepared(path, tmp_path / "w", layout=layout)
            assert error.value.next_step


# --- names


def test_file_names_that_are_not_utf_8_are_read_shown_and_written(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder(*(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5)))
    odd = os.fsencode(root) + b"/cat/caf\xe9-\xff.png"
    os.rename(root / "cat/0.png", odd)
    dataset = prepared(root, tmp_path / "w")
    row = next(row for row in dataset.rows if "caf" in row.uri)
    assert row.uri == r"cat/caf\xe9-\xff.png"
    assert row.verdict is Verdict.OK
    assert dataset.encoded(row.index) == Path(os.fsdecode(odd)).read_bytes()
    json.dumps(row.uri).encode("ascii")
    row.uri.encode("utf-8")
    dataset.write_csv(tmp_path / "dataset.csv")
    assert table.read(tmp_path / "dataset.csv") == list(dataset.rows)


def test_a_name_that_only_looks_like_such_a_name_is_itself(tmp_path: Path) -> None:
    (tmp_path / r"a\xff.png").write_bytes(b"itself")
    assert FileReader(tmp_path).read(r"a\xff.png") == b"itself"
    for name in ("plain", "caf\u00e9", os.fsdecode(b"\xe9\xff\x80"), "a\\b"):
        assert as_file_name(as_text(name)) == name


@pytest.mark.parametrize(
    "name", ["cat/1.png", "cat//1.png", "./cat/1.png", "cat/1.png/", "cat/1.png/.", "dog/../cat/1.png"]
)
def test_a_manifest_may_write_a_path_in_several_ways(tmp_path: Path, name: str) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"of a cat")
    assert FileReader(tmp_path).read(name) == b"of a cat"
    assert FileReader(tmp_path).stamp(name) != ""


def test_a_class_folder_whose_name_is_not_utf_8_is_refused_by_name(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    os.rename(root / "dog", os.fsencode(root) + b"/h\xfcnd")
    with pytest.raises(DatasetError, match=r"class name 'h\\udcfcnd' of .* is not UTF-8"):
        layouts.read(root, work_dir=tmp_path)


@pytest.mark.parametrize("name", [" ", "\u3000"])
def test_a_class_folder_without_a_name_is_refused(tmp_path: Path, make_folder: MakeFolder, name: str) -> None:
    with pytest.raises(DatasetError, match="is empty; a class name is text"):
        layouts.read(make_folder("cat/1.png", f"{name}/1.png"), work_dir=tmp_path)


def test_classes_that_differ_in_case_or_unicode_form_only_are_named_together(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    manifest = tmp_path / "labels.csv"
    labels = ["Cat", "cat", composed, decomposed, "\ufb01sh", "fish", "dog"]
    lines = [f"{n}.png,{label}" for n, label in enumerate(labels)]
    manifest.write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    assert alike_labels(layouts.read(manifest, work_dir=tmp_path)) == [
        r"The class 'café' is written in 2 ways that look the same, 'cafe\u0301' and 'caf\xe9'; they are taken for one "
        "class.",
        "The classes 'Cat' and 'cat' differ in case or Unicode form only; they are taken for 2 classes. Rename them if "
        "they are one.",
        r"The classes 'fish' and '\ufb01sh' differ in case or Unicode form only; they are taken for 2 classes. Rename "
        "them if they are one.",
    ]


def test_the_warning_reaches_the_summary(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder(*(f"{label}/{number}.png" for label in ("cat", "Cat") for number in range(6)))
    (warning,) = prepared(root, tmp_path / "w").summary.warnings
    assert "'Cat' and 'cat'" in warning


# --- archives (names that lead out, links and devices: test_archive.py)


def zeros(path: Path, num_bytes: int) -> Path:
    """A .zip or .tar.gz of one file of zeros."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("cat/1.bmp", bytes(num_bytes))
    else:
        with tarfile.open(path, "w:gz") as out:
            member = tarfile.TarInfo("cat/1.bmp")
            member.size = num_bytes
            out.addfile(member, io.BytesIO(bytes(num_bytes)))
    return path


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_an_archive_that_grows_a_thousandfold_fills_no_disk(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "HARMLESS_BYTES", 1 << 20)
    path = zeros(tmp_path / name, 20 << 20)
    assert path.stat().st_size < (20 << 20) / 900
    with pytest.raises(DatasetError, match="unpacks to more than 100 times its size"):
        archive.unpack(path, tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


def test_a_small_archive_may_grow(tmp_path: Path) -> None:
    path = zeros(tmp_path / "small.zip", 10 << 20)
    assert path.stat().st_size < (10 << 20) / 900
    assert (archive.unpack(path, tmp_path / "w") / "cat/1.bmp").stat().st_size == 10 << 20


def test_a_zip_that_lies_about_its_sizes_is_damaged_not_unpacked(tmp_path: Path) -> None:
    path = zeros(tmp_path / "liar.zip", 1 << 20)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10)))
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        archive.unpack(path, tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


def test_a_sparse_member_that_claims_a_petabyte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "HARMLESS_BYTES", 1 << 20)
    member = tarfile.TarInfo("cat/1.bmp")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9" * 15}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as out:
        out.addfile(member)
    with pytest.raises(DatasetError, match="unpacks to more than 100 times"):
        archive.unpack(tmp_path / "x.tar", tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


@pytest.mark.parametrize("names", [("cat", "cat/1.png"), ("cat/1.png", "cat"), (".",)])
def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        for name in names:
            out.writestr(name, b"data")
    with pytest.raises(DatasetError, match="a file and a folder of one name"):
        archive.unpack(tmp_path / "x.zip", tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("cat/1.png")
    member.pax_headers = {"path": "cat/\0.png"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as out:
        out.addfile(member)
    with pytest.raises(DatasetError, match=r"'cat/\\x00\.png', a name that leads out"):
        archive.unpack(tmp_path / "x.tar", tmp_path / "w")


@pytest.mark.parametrize("form", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_every_damaged_archive_is_unpacked_or_refused_and_leaves_nothing(
    tmp_path: Path, make_folder: MakeFolder, form: str
) -> None:
    folder, path = make_folder(*(f"cat/{n}.png" for n in range(5))), tmp_path / form
    if form == "x.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for file in sorted(folder.rglob("*.png")):
                out.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, f"w:{form.rpartition('.')[2].replace('tar', '')}") as out:
            out.add(folder, ".")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    outcomes: set[str] = set()
    for number in range(80):
        data = bytearray(whole)
        if number % 4 == 0:
            del data[int(rng.integers(len(data))) :]
        for place in rng.integers(len(data), size=int(rng.integers(1, 20))) if data else ():
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            shutil.rmtree(archive.unpack(path, tmp_path / "w"))
            outcomes.add("unpacked")
        except DatasetError as error:
            outcomes.add("refused" if error.next_step else "refused without a word")
        assert not list((tmp_path / "w").iterdir())
    assert "refused" in outcomes <= {"unpacked", "refused"}


# --- manifests


def csv_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_manifest_of_a_million_rows_is_read(tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", encoding="utf-8") as file:
        file.write("image,label,split\n")
        file.writelines(f"{n % 100}/{n}.jpg,class {n % 7},{'test' if n % 9 else ''}\n" for n in range(1_000_000))
    examples = csv_manifest.read(tmp_path)
    assert len(examples) == 1_000_000
    assert (examples[-1].uri, examples[-1].label) == ("99/999999.jpg", "class 0")


def test_the_last_of_many_rows_is_named_where_it_contradicts_the_first(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,cat" for n in range(5000)]
    path = csv_of(tmp_path, "\n".join(["image,label", *rows, "17.jpg,dog"]))
    with pytest.raises(DatasetError, match=r"line 5002 lists '17\.jpg' as 'dog', but labels\.csv, line 19 as 'cat'"):
        csv_manifest.read(path)


def test_labels_that_training_does_not_know_are_named(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder(*(f"{n}.png" for n in range(12)))
    rows = [f"{n}.png,{'cat' if n % 2 else 'dog'},{'train' if n < 8 else 'test'}" for n in range(10)]
    csv_of(root, "\n".join(["image,label,split", *rows, "10.png,unicorn,test", "11.png,unicorn,test"]))
    with pytest.raises(DatasetError, match="The class 'unicorn' has no training image"):
        prepared(root, tmp_path / "w")


def test_another_separator_on_one_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 3 has no label; received image '2\.jpg;dog'"):
        csv_manifest.read(csv_of(tmp_path, "image,label\n1.jpg,cat\n2.jpg;dog\n"))


def test_a_separator_inside_a_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 2 has 3 fields, but the header names 2: ") as error:
        csv_manifest.read(csv_of(tmp_path, "image,label\nred, round.jpg,cat\n"))
    assert "in quotes" in str(error.value)
    assert csv_manifest.read(csv_of(tmp_path, 'image,label\n"red, round.jpg",cat,,\n'))[0].uri == "red, round.jpg"


def test_both_kinds_of_slash_are_one_path(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "image,label\na\\b/1.jpg,cat\na/b\\1.jpg,cat\n.\\a//b/./1.jpg,cat\n")
    assert csv_manifest.read(path) == [Example("a/b/1.jpg", "cat")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_blank_lines_above_are_read(tmp_path: Path, line_end: str) -> None:
    path = csv_of(tmp_path, line_end.join(["", "", "image,label", "1.jpg,cat", "", "2.jpg,dog", ""]))
    assert csv_manifest.recognise(path)
    assert [example.label for example in csv_manifest.read(path)] == ["cat", "dog"]
    wrong = csv_of(tmp_path, line_end.join(["", "", "image,label", "1.jpg,cat", "", ",dog"]))
    with pytest.raises(DatasetError, match="line 6 has no image"):
        csv_manifest.read(wrong)


@pytest.mark.parametrize("line", ["a\0.jpg,cat", "a.jpg,c\0at"])
def test_a_nul_in_a_table_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetError, match=r"labels\.csv, line 2: the (image|label) .* holds a NUL"):
        csv_manifest.read(csv_of(tmp_path, f"image,label\n{line}\n"))


def test_utf_16_without_a_byte_order_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"not UTF-8: byte 1 cannot be read \(UTF-16 without its mark\?\)"):
        csv_manifest.read(csv_of(tmp_path, "image,label\n1.jpg,cat\n".encode("utf-16-le")))


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        ("a\\u0000.jpg", "cat", "holds a NUL or what is no Unicode"),
        ("a\\udcff.jpg", "cat", "holds a NUL or what is no Unicode"),
        ("a.jpg", "c\\ud800", "holds a NUL or what is no Unicode"),
        ("../a.jpg", "cat", "lies outside the manifest's folder"),
        ("a/../../b.jpg", "cat", "lies outside the manifest's folder"),
        ("..\\\\a.jpg", "cat", "lies outside the manifest's folder"),
    ],
)
def test_odd_names_in_json_are_refused_with_their_line(tmp_path: Path, image: str, label: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(
        f'{{"imageGcsUri": "{image}", "classificationAnnotation": {{"displayName": "{label}"}}}}', encoding="utf-8"
    )
    with pytest.raises(DatasetError, match=rf"a\.jsonl, line 1.*{message}"):
        jsonl_manifest.read(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"imageGcsUri": ' + "9" * 5000 + "}"])
def test_json_that_is_meant_to_break_the_parser_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"a\.jsonl, line 1"):
        jsonl_manifest.read(tmp_path)


def test_a_field_without_an_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a readable table after line"):
        csv_manifest.read(csv_of(tmp_path, 'image,label\n1.jpg,"cat' + "x" * 200_000))
