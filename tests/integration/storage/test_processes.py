"""A folder shared by several processes: one lease, one pull at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RACE = """
import sys
from job.storage import ABSENT, VersionConflictError, at
sys.stdin.readline()
try:
    at(sys.argv[1]).write("lease.json", sys.argv[2].encode(), if_version=ABSENT)
except VersionConflictError:
    print("lost")
else:
    print("won")
"""

PULL = """
import pathlib, sys
from job.storage import at
from job.storage.transfer import pull
sys.stdin.readline()
print(pull(at(sys.argv[1]), pathlib.Path(sys.argv[2])).num_fetched)
"""


def _race(code: str, arguments: list[list[str]]) -> list[str]:
    """Starts one process for each list of arguments, lets them go together and returns what they print."""
    started = [
        subprocess.Popen([sys.executable, "-c", code, *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in arguments
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in started]


def test_one_of_four_racing_processes_gets_the_lease(tmp_path: Path):
    said = _race(RACE, [[str(tmp_path / "run"), str(number)] for number in range(4)])
    assert sorted(said) == ["lost", "lost", "lost", "won"]
    assert (tmp_path / "run" / "lease.json").read_text() == str(said.index("won"))


def test_of_two_pulls_into_one_folder_the_second_finds_everything_there(tmp_path: Path):
    (tmp_path / "from").mkdir()
    for number in range(50):
        (tmp_path / "from" / f"{number}.jpg").write_bytes(bytes(number))
    said = _race(PULL, [[str(tmp_path / "from"), str(tmp_path / "to")]] * 2)
    assert sorted(said) == ["0", "50"]
