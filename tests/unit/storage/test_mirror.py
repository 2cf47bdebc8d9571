"""Logs in the background: copied when they change, never in the way of the run."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from job.errors import TemporaryError
from job.storage import ObjectInfo
from job.storage.local import LocalStore
from job.storage.mirror import Mirror


class Flaky(LocalStore):
    """A folder that refuses uploads while `is_down`, and says when one has arrived."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), root)
        self.is_down = False
        self.sent: list[str] = []
        self.arrived = threading.Event()

    def upload(self, source: Path, name: str) -> ObjectInfo:
        if self.is_down:
            raise TemporaryError(f"{name} is busy")
        info = super().upload(source, name)
        self.sent.append(name)
        self.arrived.set()
        return info


@pytest.fixture
def store(tmp_path: Path) -> Flaky:
    return Flaky(tmp_path / "bucket")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "train").mkdir(parents=True)
    (tmp_path / "logs" / "train" / "events").write_bytes(b"1")
    return tmp_path / "logs"


def test_only_changed_files_are_copied(logs: Path, store: Flaky):
    with Mirror(logs, store, "run/logs", every_s=3600) as mirror:
        assert mirror.now() == 1
        assert mirror.now() == 0
        (logs / "train" / "events").write_bytes(b"12")
        (logs / "config").write_bytes(b"x")
        assert mirror.now() == 2
        assert store.read("run/logs/train/events") == b"12"
    assert store.sent == ["run/logs/train/events", "run/logs/config", "run/logs/train/events"]


def test_the_background_copies_by_itself(logs: Path, store: Flaky):
    with Mirror(logs, store, "logs", every_s=0.001):
        assert store.arrived.wait(30)


def test_the_end_copies_what_is_left_also_after_an_error(logs: Path, store: Flaky):
    with pytest.raises(ZeroDivisionError), Mirror(logs, store, "logs", every_s=3600):
        raise ZeroDivisionError
    assert store.sent == ["logs/train/events"]


def test_a_failure_is_told_once_and_made_good_later(logs: Path, store: Flaky):
    told: list[Exception] = []
    with Mirror(logs, store, every_s=3600, on_error=told.append) as mirror:
        store.is_down = True
        assert mirror.now() == mirror.now() == 0
        assert len(told) == 1
        assert isinstance(mirror.last_error, TemporaryError)
        store.is_down = False
        assert mirror.now() == 1
        assert mirror.last_error is None
        store.is_down = True
        (logs / "more").write_bytes(b"x")
        mirror.now()
        assert len(told) == 2
    assert isinstance(mirror.last_error, TemporaryError)


def test_without_a_listener_a_failure_is_logged(logs: Path, store: Flaky, caplog: pytest.LogCaptureFixture):
    store.is_down = True
    with Mirror(logs, store, "logs", every_s=3600):
        pass
    assert "train/events is busy" in caplog.text


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path, store: Flaky):
    with Mirror(tmp_path / "later", store, every_s=3600) as mirror:
        assert mirror.now() == 0
    assert mirror.last_error is None
