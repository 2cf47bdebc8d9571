"""What a job that was killed in its survey does again, and that its result is the one of an undisturbed job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from job.config import DataConfig
from job.dataset.examine import Finding
from job.dataset.example import Verdict
from job.dataset.journal import Journal
from job.dataset.prepare import Dataset, prepare
from job.errors import StoppedError

REPOSITORY = Path(__file__).resolve().parents[3]
Encode = Callable[..., bytes]
NUM_A_CLASS = 130
STORED_PX = 12

KILLED = """
import os, signal, sys
from pathlib import Path
from job.config import DataConfig
from job.dataset.prepare import prepare
data, work, num = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def kill(what, done, total):
    journal = next(work.glob("*.journal"))
    if journal.read_bytes().count(b"\\n") >= num:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(DataConfig(max_bad=0.5), dataset_dir=data, work_dir=work, stored_px=12, seed=0, on_progress=kill)
"""


@pytest.fixture
def data(tmp_path: Path, encoded: Encode) -> Path:
    """Two classes, with copies and broken files."""
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(NUM_A_CLASS):
            content = b"broken" if number % 40 == 7 else encoded(number % 100, form="JPEG")
            (tmp_path / "data" / label / f"{number:03d}.jpg").write_bytes(content)
    return tmp_path / "data"


def prepared(data: Path, work: Path, progress: list[int] | None = None) -> Dataset:
    def note(what: str, done: int, total: int) -> None:
        if progress is not None and what == "survey":
            progress.append(done)

    config = DataConfig(max_bad=0.5)
    return prepare(config, dataset_dir=data, work_dir=work, stored_px=STORED_PX, seed=0, on_progress=note)


def killed(data: Path, work: Path, num: int) -> int:
    """Runs the survey in a process that is killed when its journal has `num` lines; returns how many it has then."""
    work.mkdir(exist_ok=True)
    command = [sys.executable, "-c", KILLED, str(data), str(work), str(num)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return journal_of(work).read_bytes().count(b"\n")


def journal_of(work: Path) -> Path:
    return next(work.glob("*.journal"))


def spoil(data: Path, work: Path) -> int:
    """Makes the files that the journal names unreadable, size and time as they were; returns their number."""
    names = {json.loads(line)[1] for line in journal_of(work).read_bytes().splitlines(keepends=True)}
    for name in names:
        status = (data / name).stat()
        (data / name).write_bytes(bytes(status.st_size))
        os.utime(data / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    return len(names)


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.rows == other.rows
    everything = np.arange(len(one.rows))
    np.testing.assert_array_equal(one.pixels.gather(everything), other.pixels.gather(everything))


def test_after_kill_9_nothing_done_is_done_again_and_the_result_is_the_same(data: Path, tmp_path: Path) -> None:
    undisturbed = prepared(data, tmp_path / "undisturbed")
    first = killed(data, tmp_path / "w", 60)
    assert 60 <= first < 2 * NUM_A_CLASS
    assert sorted(path.suffix for path in (tmp_path / "w").iterdir()) == [".journal", ".partial"]
    second = killed(data, tmp_path / "w", first + 40)
    assert first + 40 <= second < 2 * NUM_A_CLASS
    # Whoever reads one of these files again will find no image in it.
    assert spoil(data, tmp_path / "w") == second
    progress: list[int] = []
    resumed = prepared(data, tmp_path / "w", progress)
    assert progress[0] == second
    assert progress[-1] == 2 * NUM_A_CLASS
    assert_same(resumed, undisturbed)
    assert sorted(path.suffix for path in (tmp_path / "w").iterdir()) == [".csv", ".npy"]


def stopped(data: Path, work: Path, after: int = 100) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done >= after:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        prepare(DataConfig(max_bad=0.5), dataset_dir=data, work_dir=work, stored_px=STORED_PX, seed=0, on_progress=stop)


def test_after_a_stop_a_changed_file_alone_is_surveyed_again(data: Path, tmp_path: Path, encoded: Encode) -> None:
    stopped(data, tmp_path / "w")
    known = journal_of(tmp_path / "w").read_bytes().count(b"\n")
    name = json.loads(journal_of(tmp_path / "w").read_bytes().split(b"\n")[0])[1]
    (data / name).write_bytes(encoded(999, size=(40, 40), form="JPEG"))
    undisturbed = prepared(data, tmp_path / "undisturbed")
    progress: list[int] = []
    resumed = prepared(data, tmp_path / "w", progress)
    assert progress[0] == known - 1
    assert_same(resumed, undisturbed)
    assert next(row.width_px for row in resumed.rows if row.uri == name) == 40


def test_a_file_that_has_become_bad_leaves_no_pixels(data: Path, tmp_path: Path) -> None:
    stopped(data, tmp_path / "w")
    name = json.loads(journal_of(tmp_path / "w").read_bytes().split(b"\n")[0])[1]
    (data / name).write_bytes(b"no image any more")
    resumed = prepared(data, tmp_path / "w")
    row = next(row for row in resumed.rows if row.uri == name)
    assert row.verdict is Verdict.NOT_AN_IMAGE
    assert not resumed.pixels.gather(np.array([row.index])).any()


def test_pixels_that_never_reached_the_disk_are_packed_again(data: Path, tmp_path: Path) -> None:
    undisturbed = prepared(data, tmp_path / "undisturbed")
    stopped(data, tmp_path / "w")
    known = journal_of(tmp_path / "w").read_bytes().count(b"\n")
    partial = next((tmp_path / "w").glob("*.partial"))
    name = json.loads(journal_of(tmp_path / "w").read_bytes().split(b"\n")[0])[1]
    size, index = 3 * STORED_PX * STORED_PX, next(row.index for row in undisturbed.rows if row.uri == name)
    assert undisturbed.pixels.gather(np.array([index])).any()
    content = bytearray(partial.read_bytes())
    content[128 + index * size : 128 + (index + 1) * size] = bytes(size)
    partial.write_bytes(content)
    progress: list[int] = []
    assert_same(prepared(data, tmp_path / "w", progress), undisturbed)
    assert progress[0] == known - 1


def test_a_kill_between_table_and_pack_costs_no_second_decode(data: Path, tmp_path: Path) -> None:
    undisturbed = prepared(data, tmp_path / "w")
    pack = next((tmp_path / "w").glob("*.npy"))
    # As it was an instant before the end: the journal there, the pack without its name, the table with its own.
    stopped(data, tmp_path / "v", after=2 * NUM_A_CLASS)
    partial, journal = next((tmp_path / "v").glob("*.partial")), journal_of(tmp_path / "v")
    pack.rename(tmp_path / "w" / partial.name)
    journal.rename(tmp_path / "w" / journal.name)
    spoil(data, tmp_path / "w")
    progress: list[int] = []
    assert_same(prepared(data, tmp_path / "w", progress), undisturbed)
    assert set(progress) == {2 * NUM_A_CLASS}


def test_the_partial_pack_of_a_dataset_that_has_changed_is_removed(data: Path, tmp_path: Path, encoded: Encode) -> None:
    stopped(data, tmp_path / "w")
    (data / "cat/new.jpg").write_bytes(encoded(7, form="JPEG"))
    stopped(data, tmp_path / "w")
    assert len(list((tmp_path / "w").glob("*.partial"))) == 1


FOUND = Finding(Verdict.OK, "", "CMYK", "00", 3, 4, 5, "0f", 6)
BAD = Finding(Verdict.CORRUPT, "why")


def test_the_journal_gives_back_what_was_noted_names_that_are_not_utf_8_included(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append("p", [("a\udcff\n.jpg", "1:2", FOUND), ("b", "3", BAD)])
        journal.append(None, [("c", "4", BAD)])
    with Journal(tmp_path / "j") as journal:
        assert journal.entries("p") == {("a\udcff\n.jpg", "1:2"): FOUND, ("b", "3"): BAD}
        assert len(journal.entries(None)) == 3
        assert journal.entries("q") == {}
        journal.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_torn_last_line_is_ignored_and_written_over(tmp_path: Path, cut: int) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append("p", [("a", "1", FOUND), ("b", "2", FOUND)])
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes()[:-cut])
    with Journal(tmp_path / "j") as journal:
        assert set(journal.entries("p")) == {("a", "1")}
        journal.append("p", [("c", "3", BAD)])
        assert set(journal.entries("p")) == {("a", "1"), ("c", "3")}


@pytest.mark.parametrize("line", [b"\0\0\0\0", b"{}", b"[1]", b'["p", "x", "1", "splendid"]', b"\xff", b"7"])
def test_a_damaged_line_is_ignored(tmp_path: Path, line: bytes) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append("p", [("a", "1", FOUND)])
    (tmp_path / "j").write_bytes(line + b"\n" + (tmp_path / "j").read_bytes())
    with Journal(tmp_path / "j") as journal:
        assert journal.entries("p") == {("a", "1"): FOUND}


def test_a_second_process_has_a_journal_of_its_own_and_takes_it_along(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as first:
        first.append("p", [("a", "1", FOUND)])
        with Journal(tmp_path / "j") as second:
            assert (first.is_private, second.is_private) == (False, True)
            assert second.entries("p") == {}
            second.append("p", [("b", "2", FOUND)])
            second.own(tmp_path / "pack").write_bytes(b"")
            assert len(list(tmp_path.iterdir())) == 3
        assert [path.name for path in tmp_path.iterdir()] == ["j"]
        assert set(first.entries("p")) == {("a", "1")}
