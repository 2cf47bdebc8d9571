"""Files that arrive: whole under their name, or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import ConfigError, TemporaryError
from job.storage import disk


def test_a_file_arrives_whole_in_a_folder_that_was_not_there(tmp_path: Path):
    with disk.arriving(tmp_path / "a" / "b.jpg", 8) as file:
        file.write(b"half")
        assert not (tmp_path / "a" / "b.jpg").exists()
        file.write(b"done")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.jpg"]
    assert (tmp_path / "a" / "b.jpg").read_bytes() == b"halfdone"


def test_what_was_emptied_begins_anew(tmp_path: Path):
    with disk.arriving(tmp_path / "b.jpg", 5) as file:
        file.write(b"wrong and long")
        file.empty()
        file.write(b"right")
    assert (tmp_path / "b.jpg").read_bytes() == b"right"


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), TemporaryError("x")])
def test_what_failed_leaves_the_older_file_and_nothing_else(tmp_path: Path, error: BaseException):
    (tmp_path / "b.jpg").write_bytes(b"older")
    with pytest.raises(type(error)), disk.arriving(tmp_path / "b.jpg", 5) as file:
        file.write(b"half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["b.jpg"]
    assert (tmp_path / "b.jpg").read_bytes() == b"older"


def test_a_file_where_a_folder_is_needed_is_a_typed_error(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"")
    said = "there is a file where a folder is expected"
    with pytest.raises(ConfigError, match=said), disk.arriving(tmp_path / "a" / "b.jpg", 5):
        pass


def test_a_large_file_is_refused_before_its_first_byte(tmp_path: Path):
    said = r"b\.bin needs 1,152,921,504,606\.8 MB; .* MB are free"
    with pytest.raises(TemporaryError, match=said), disk.arriving(tmp_path / "b.bin", 1 << 60):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_draws_other_names():
    program = (
        "import os\n"
        "from job.storage import disk\n"
        "child = os.fork()\n"
        "os.write(1, disk._temporary_name().encode() + b'\\n')\n"
        "if child: os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first != second
