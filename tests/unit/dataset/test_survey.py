"""Many images at once: processes find what one finds, and a worker that is killed or hangs is a verdict."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from job.dataset import layouts, pack, survey, workers
from job.dataset.decode import decode
from job.dataset.examine import Examiner, Finding
from job.dataset.example import Example, Row, Verdict
from job.dataset.geometry import fit
from job.dataset.overdue import Activity
from job.dataset.reading import FileReader
from job.errors import DatasetError, StoppedError

Encode = Callable[..., bytes]

DEADLY = """
import os, signal
class Reader:
    def __init__(self, data, deadly):
        self.data, self.deadly = data, deadly
    def read(self, uri):
        if uri in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.data
    def stamp(self, uri):
        return uri
"""


KILLED = """
import os, signal, sys
from pathlib import Path
from job.dataset import workers
from job.dataset.examine import Examiner, Finding
from job.dataset.reading import FileReader
def kill(found):
    os.write(1, b"at work\\n")
    os.kill(os.getpid(), signal.SIGKILL)
images = [(n, "good.png") for n in range(5000)]
workers.examine(Examiner(FileReader(Path(sys.argv[1])), 8, 1.0, 12), images, kill)
"""

UNGUARDED = """
import sys
from pathlib import Path
from job.dataset import survey
from job.dataset.examine import Examiner
from job.dataset.example import Example
from job.dataset.reading import FileReader
print("started", flush=True)
found = survey.look([Example("one.png", "cat")] * 210, Examiner(FileReader(Path(sys.argv[1])), 8, 1.0, 12))
print(sum(finding.verdict == "ok" for finding in found.values()), "ok")
"""

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: Encode) -> Callable[[set[str]], layouts.Reader]:
    """Readers that kill the process at some uris, as a crashing decoder would; importable by workers."""
    (tmp_path / "deadly.py").write_text(DEADLY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("deadly")
    monkeypatch.setitem(sys.modules, "deadly", module)
    return lambda uris: module.Reader(encoded(), uris)


@pytest.fixture
def folder(tmp_path: Path, encoded: Encode) -> Path:
    """Nine images, of which one is good, repaired or bad in each way."""
    files = {
        "good.png": encoded(1),
        "again.png": encoded(1),
        "alpha.png": encoded(2, mode="RGBA"),
        "lying.jpg": encoded(3),
        "cut.png": encoded(4, size=(64, 64))[:5000],
        "page.jpg": b"<html>",
        "tiny.png": encoded(5, size=(7, 99)),
        "huge.png": encoded(6, size=(200, 200)),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


NAMES = ("good.png", "again.png", "alpha.png", "lying.jpg", "cut.png", "page.jpg", "tiny.png", "huge.png", "gone.png")


def surveyed(folder: Path, examples: list[Example], writer: pack.PackWriter | None = None) -> list[Row]:
    reader = FileReader(folder)
    return survey.rows_of(examples, survey.look(examples, Examiner(reader, 8, 0.03, 12, writer)), reader)


def test_every_image_gets_its_verdict_and_reason(folder: Path) -> None:
    rows = surveyed(folder, [Example(name, "cat") for name in NAMES])
    assert [str(row.verdict) for row in rows] == [
        *["ok"] * 4,
        *["truncated", "not an image", "too small", "too large", "missing"],
    ]
    assert all(bool(row.reason) == (row.verdict is not Verdict.OK) for row in rows)
    assert rows[0].sha256 == hashlib.sha256((folder / "good.png").read_bytes()).hexdigest()
    assert (rows[0].width_px, rows[0].height_px) == (24, 16)
    assert rows[0].size_bytes == (folder / "good.png").stat().st_size
    assert [row.notes for row in rows[:4]] == ["", "duplicate of good.png", "alpha dropped", "wrong extension: is PNG"]
    assert rows[-1].sha256 == ""


def test_a_copy_under_another_label_says_which(folder: Path) -> None:
    rows = surveyed(folder, [Example("good.png", "cat"), Example("again.png", "dog")])
    assert rows[1].notes == "duplicate of good.png, which is labelled 'cat'"


def test_processes_find_and_pack_what_this_process_does(folder: Path, tmp_path: Path) -> None:
    many = [name for _ in range(24) for name in NAMES]
    found = []

    def here(examiner: Examiner, images: list[workers.Image], on_found: workers.OnFound) -> None:
        on_found(examiner(images))

    for name, work in (("here", here), ("processes", workers.examine)):
        assert pack.allocate(tmp_path / name, len(many), 12)
        writer = pack.PackWriter(tmp_path / name, 12, "squash")
        findings: dict[int, Finding] = {}
        calls: list[list[tuple[int, Finding]]] = []
        work(Examiner(FileReader(folder), 8, 0.03, 12, writer), list(enumerate(many)), calls.append)
        writer.close()
        for call in calls:
            findings.update(call)
        assert sum(map(len, calls)) == len(findings) == len(many), "an image was examined twice"
        found.append((findings, np.load(tmp_path / name)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    image = decode((folder / "good.png").read_bytes(), "good.png").image
    assert image is not None
    np.testing.assert_array_equal(found[0][1][0], fit(image, 12, "squash"))
    assert not found[0][1][8].any(), "a missing image's row stays black"


@pytest.mark.parametrize("num_images", [6, 210])
def test_an_image_that_kills_its_worker_is_quarantined_alone(
    deadly: Callable[[set[str]], layouts.Reader], num_images: int
) -> None:
    images = [(number, str(number)) for number in range(num_images)]
    findings: dict[int, Finding] = {}
    workers.examine(Examiner(deadly({"3", "5"}), 8, 1.0, 12), images, findings.update)
    assert len(findings) == len(images)
    assert sorted(index for index, found in findings.items() if found.verdict is not Verdict.OK) == [3, 5]
    assert findings[3].verdict is Verdict.CORRUPT
    assert "died" in findings[3].reason


@pytest.fixture
def hold() -> Iterator[Callable[[Path], threading.Event]]:
    """Returns a function that makes everybody else who opens a file wait: for /proc/sys/fs/lease-break-time, 45 s.

    What it returns is set as soon as somebody waits.
    """
    is_waited_for = threading.Event()
    before = signal.signal(signal.SIGIO, lambda number, frame: is_waited_for.set())
    opened = []

    def hold(path: Path) -> threading.Event:
        opened.append(path.open("rb+"))
        try:
            fcntl.fcntl(opened[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"this file system grants no lease: {error}")
        return is_waited_for

    try:
        yield hold
    finally:
        for file in opened:
            file.close()
        signal.signal(signal.SIGIO, before)


@pytest.mark.parametrize("num_others", [4, 60])
def test_an_image_that_never_comes_is_too_slow_and_the_others_are_found(
    tmp_path: Path, encoded: Encode, hold: Callable[[Path], threading.Event], num_others: int
) -> None:
    for number in range(num_others):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    (tmp_path / "held.png").write_bytes(encoded(99))
    hold(tmp_path / "held.png")
    names = ["0.png", "1.png", "held.png", *(f"{number}.png" for number in range(2, num_others))]
    calls: list[list[tuple[int, Finding]]] = []
    examiner = Examiner(FileReader(tmp_path), 8, 1.0, 12)
    workers.examine(examiner, list(enumerate(names)), calls.append, limit_s=2.0)
    findings = dict(found for call in calls for found in call)
    assert sum(map(len, calls)) == len(findings) == len(names)
    assert {index for index, found in findings.items() if found.verdict is not Verdict.OK} == {2}
    assert findings[2] == Finding(Verdict.TOO_SLOW, "reading and decoding it took longer than 2 s, twice")
    assert not multiprocessing.active_children()


def test_a_stopped_worker_costs_no_image_its_verdict(deadly: Callable[[set[str]], layouts.Reader]) -> None:
    images = [(number, str(number)) for number in range(300)]
    findings: dict[int, Finding] = {}
    stopped: list[int] = []

    def stop_one(found: list[tuple[int, Finding]]) -> None:
        findings.update(found)
        if not stopped:
            pid = multiprocessing.active_children()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    workers.examine(Examiner(deadly(set()), 8, 1.0, 12), images, stop_one, limit_s=2.0)
    assert stopped
    assert len(findings) == len(images)
    assert {found.verdict for found in findings.values()} == {Verdict.OK}
    assert not multiprocessing.active_children()


def test_an_error_is_not_held_up_by_a_worker_that_hangs(
    tmp_path: Path, encoded: Encode, hold: Callable[[Path], threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One worker hangs while another gives the finding that ends the survey, on however few cores.
    monkeypatch.setattr(workers, "num_cores", lambda: 2)
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    is_waited_for = hold(tmp_path / "8.png")

    def stop(found: object) -> None:
        assert is_waited_for.wait(60), "no worker came to the image"
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        images = [(number, f"{number}.png") for number in range(60)]
        workers.examine(Examiner(FileReader(tmp_path), 8, 1.0, 12), images, stop, limit_s=2.0)
    assert not multiprocessing.active_children()


def test_a_stop_leaves_no_worker_behind(deadly: Callable[[set[str]], layouts.Reader]) -> None:
    calls = []

    def stop(found: object) -> None:
        calls.append(found)
        raise StoppedError("stopped")

    for num_images in (3, 210):
        with pytest.raises(StoppedError):
            workers.examine(Examiner(deadly(set()), 8, 1.0, 12), [(n, "") for n in range(num_images)], stop)
    assert len(calls) == 2
    assert not multiprocessing.active_children()


def test_a_stopped_worker_does_not_finish_its_chunk(
    deadly: Callable[[set[str]], layouts.Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_stopped = multiprocessing.get_context("forkserver").Event()
    monkeypatch.setattr(workers, "_is_stopped", is_stopped)
    monkeypatch.setattr(workers, "_examiner", Examiner(deadly(set()), 8, 1.0, 12))
    monkeypatch.setattr(workers, "_activity", Activity(multiprocessing.get_context("forkserver"), 1))
    chunk = [(n, "") for n in range(5)]
    assert [index for index, _ in workers._examine_chunk(chunk)] == [0, 1, 2, 3, 4]
    is_stopped.set()
    assert workers._examine_chunk(chunk) == []


def test_workers_end_when_their_parent_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(folder)]
    # Returning at all shows it: run() reads the pipe to its end, and every worker has it as its stdout.
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"at work\n"


def test_a_script_without_a_guard_runs_once(tmp_path: Path, encoded: Encode) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED, encoding="utf-8")
    (tmp_path / "one.png").write_bytes(encoded())
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "started\n210 ok\n"), done.stderr


def test_one_class_and_small_classes_are_named() -> None:
    with pytest.raises(DatasetError, match="one class, 'cat'"):
        survey.check_classes([Example("1", "cat"), Example("2", "cat")])
    with pytest.raises(DatasetError, match=r"'cat' has 1 image; .* So do 1 more: 'dog'"):
        survey.check_classes([Example("1", "cat"), Example("2", "dog"), Example("3", "fox"), Example("4", "fox")])


def test_too_many_bad_images_stop_the_job_with_counts_and_names(folder: Path) -> None:
    rows = surveyed(folder, [Example(name, "cat") for name in NAMES])
    with pytest.raises(DatasetError) as error:
        survey.check_usable(rows, max_bad=0.5, survey_csv="survey.csv")
    assert error.value.exit_code == 65
    assert "5 of 9 images (55.6%) are unusable; data.max_bad allows 50.0%" in error.value.message
    assert "1 truncated, 1 not an image" in error.value.message
    assert "cut.png: truncated" in error.value.message
    assert "survey.csv" in error.value.next_step


def test_a_class_that_its_bad_images_leave_too_small_is_named(folder: Path) -> None:
    examples = [
        Example("good.png", "cat"),
        Example("alpha.png", "cat"),
        Example("lying.jpg", "dog"),
        Example("cut.png", "dog"),
    ]
    with pytest.raises(DatasetError, match=r"'dog' has 1 usable image\(s\).*cut\.png: truncated"):
        survey.check_usable(surveyed(folder, examples), max_bad=1.0, survey_csv="survey.csv")
