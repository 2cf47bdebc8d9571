"""What every store promises, asked of a folder, Cloud Storage and S3 alike."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

import google_crc32c
import pytest

from job.errors import InputMissingError, TemporaryError
from job.storage import ABSENT, ObjectInfo, VersionConflictError

ODD_NAMES = ["sp ace/ü#%41~.txt", "q?x&y=z.txt", "plus+plus.txt", "日本/写真.jpg"]


def test_listing_is_sorted_and_stays_below_the_prefix(place):
    for name in ["b/2.txt", "a-b.txt", "a/1.txt", "b.txt"]:
        place.put(name, name.encode())
    assert [info.name for info in place.store.list()] == ["a-b.txt", "a/1.txt", "b.txt", "b/2.txt"]


def test_listing_prefix_is_text_and_not_a_folder(place):
    for name in ["logs/a", "log.txt", "lo", "other/logs"]:
        place.put(name, b"x")
    assert [info.name for info in place.store.list("log")] == ["log.txt", "logs/a"]
    assert [info.name for info in place.store.list("logs/")] == ["logs/a"]
    assert list(place.store.list("none/")) == []


def test_listing_goes_past_one_page_of_a_thousand(place):
    names = [f"{number:05d}" for number in range(1003)]
    for name in names:
        place.put(name, b"")
    assert [info.name for info in place.store.list()] == names


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_survive_every_method(place, tmp_path: Path, name: str):
    place.store.write(name, b"content")
    (info,) = place.store.list()
    assert info.name == name
    assert place.store.stat(name) == info
    assert place.store.read(name) == b"content"
    place.store.download(info, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"content"
    place.store.delete(name)
    assert list(place.store.list()) == []


def test_checksum_is_that_of_the_content(place):
    place.put("a.bin", b"content")
    info = place.store.stat("a.bin")
    expected = {
        "crc32c": f"{google_crc32c.value(b'content'):08x}",
        "md5": hashlib.md5(b"content").hexdigest(),
        "": "",
    }
    assert (info.size_bytes, info.checksum) == (7, expected[info.algorithm])


def test_stat_of_nothing_and_of_a_folder_is_none(place):
    place.put("folder/file", b"x")
    assert place.store.stat("nothing") is None
    assert place.store.stat("folder") is None
    assert place.store.stat("") is None


def test_version_changes_with_content(place):
    first = place.store.write("a", b"1")
    second = place.store.write("a", b"2")
    assert first.version != second.version
    assert place.store.stat("a") == second


def test_absent_is_written_once(place):
    place.store.write("lease.json", b"mine", if_version=ABSENT)
    with pytest.raises(VersionConflictError, match=re.escape(f"{place.store.uri}/lease.json")) as caught:
        place.store.write("lease.json", b"theirs", if_version=ABSENT)
    assert caught.value.exit_code == 75
    assert caught.value.next_step
    assert place.store.read("lease.json") == b"mine"


def test_only_the_named_version_is_overwritten(place):
    old = place.store.write("lease.json", b"1", if_version=ABSENT)
    new = place.store.write("lease.json", b"2", if_version=old.version)
    with pytest.raises(VersionConflictError):
        place.store.write("lease.json", b"3", if_version=old.version)
    place.store.write("lease.json", b"4", if_version=new.version)
    assert place.store.read("lease.json") == b"4"


def test_version_of_a_deleted_object_is_not_overwritten(place):
    old = place.store.write("lease.json", b"1")
    place.store.delete("lease.json")
    with pytest.raises(VersionConflictError):
        place.store.write("lease.json", b"2", if_version=old.version)
    assert place.store.stat("lease.json") is None


@pytest.mark.parametrize("over", ["nothing", "a version"])
def test_one_of_eight_racing_writers_wins(place, over: str):
    version = ABSENT if over == "nothing" else place.store.write("lease.json", b"old").version
    barrier, won, lost = threading.Barrier(8), [], []

    def write(number: int) -> None:
        barrier.wait()
        try:
            place.store.write("lease.json", f"writer {number}".encode(), if_version=version)
            won.append(number)
        except VersionConflictError:
            lost.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert place.store.read("lease.json") == f"writer {won[0]}".encode()


@pytest.mark.parametrize("size", [0, 1, 3_000_000, 17 << 20])
def test_upload_and_download_return_the_same_bytes(place, tmp_path: Path, size: int):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    (tmp_path / "in").write_bytes(data)
    info = place.store.upload(tmp_path / "in", "deep/folder/file.bin")
    assert info == place.store.stat("deep/folder/file.bin")
    assert info.size_bytes == size
    place.store.download(info, tmp_path / "new" / "out")
    assert (tmp_path / "new" / "out").read_bytes() == data
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_upload_replaces(place, tmp_path: Path):
    for text in (b"first", b"second", b"second"):
        (tmp_path / "in").write_bytes(text)
        place.store.upload(tmp_path / "in", "file")
        assert place.store.read("file") == text


def test_download_of_an_overwritten_object_is_refused(place, tmp_path: Path):
    listed = place.store.write("a", b"old")
    place.store.write("a", b"new")
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(TemporaryError, match=re.escape(f"{place.store.uri}/a")):
        place.store.download(listed, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"before"


def test_download_of_a_deleted_object_is_a_missing_input(place, tmp_path: Path):
    listed = place.store.write("a", b"old")
    place.store.delete("a")
    with pytest.raises(InputMissingError, match=re.escape(f"{place.store.uri}/a")):
        place.store.download(listed, tmp_path / "out" / "a")
    assert list(tmp_path.glob("out/*")) == []


def test_delete_twice_is_fine(place):
    place.store.write("a/b", b"x")
    place.store.delete("a/b")
    place.store.delete("a/b")
    place.store.delete("never/there")
    assert place.store.stat("a/b") is None


def test_reading_nothing_names_the_uri_and_the_next_step(place):
    with pytest.raises(InputMissingError, match=re.escape(f"{place.store.uri}/none.json")) as caught:
        place.store.read("none.json")
    assert caught.value.exit_code == 66
    assert caught.value.next_step


def test_a_missing_bucket_is_a_missing_input_at_once(place):
    with pytest.raises(InputMissingError, match=re.escape(place.missing.uri)) as caught:
        list(place.missing.list())
    assert caught.value.exit_code == 66
    assert place.missing.num_retries == 0


def test_a_missing_source_is_a_missing_input(place, tmp_path: Path):
    with pytest.raises(InputMissingError, match="gone"):
        place.store.upload(tmp_path / "gone", "a")
    assert place.store.stat("a") is None


def test_a_target_that_is_a_folder_keeps_it(place, tmp_path: Path):
    info: ObjectInfo = place.store.write("a", b"x")
    (tmp_path / "to" / "a" / "full").mkdir(parents=True)
    with pytest.raises(Exception, match=r"folder|directory"):
        place.store.download(info, tmp_path / "to" / "a")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["a"]
