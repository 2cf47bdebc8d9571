"""Objects that fit in memory, many asked for at once: each fault costs its object one try and the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Corrupt, Fault, Reset, Status, Truncate
from job.errors import TemporaryError
from job.storage.gcs import GcsStore
from job.storage.ledger import Ledger
from job.storage.transfer import pull

DATA = bytes(range(256)) * 100
NUM = 20


def spoiling(fault: Fault, *, times: int) -> tuple[Callable[[str, str, Mapping[str, str]], Fault | None], list[str]]:
    """Spoils the first `times` answers of each object; the list holds all targets that were asked for."""
    asked: list[str] = []

    def spoil(method: str, target: str, headers: Mapping[str, str]) -> Fault | None:
        if "alt=media" not in target:
            return None
        asked.append(target)
        return fault if asked.count(target) <= times else None

    return spoil, asked


@pytest.mark.parametrize(
    "fault",
    [Status(429), Reset(), Reset(after_bytes=1000), Truncate(1000), Truncate(1000, is_consistent=True), Corrupt()],
    ids=str,
)
def test_a_pull_survives_seven_faults_of_each_object(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path, fault: Fault
):
    for number in range(NUM):
        gcs_server.put("photos", f"set/{number}.jpg", DATA)
    gcs_server.fault, asked = spoiling(fault, times=7)
    assert pull(gcs_store, tmp_path / "to").num_retries == 7 * NUM
    assert len(asked) == 8 * NUM
    assert all((tmp_path / "to" / f"{number}.jpg").read_bytes() == DATA for number in range(NUM))
    assert pull(gcs_store, tmp_path / "to").num_fetched == 0
    assert len(asked) == 8 * NUM


def test_the_eighth_fault_leaves_nothing(gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path):
    gcs_server.put("photos", "set/a.jpg", DATA)
    gcs_server.fault, _ = spoiling(Corrupt(), times=8)
    with pytest.raises(TemporaryError, match=r"gs://photos/set/a\.jpg failed in 8 tries .* came damaged"):
        pull(gcs_store, tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == [".pulling.json"]


def test_what_the_ledger_knows_is_the_time_of_the_file_on_the_disk(
    gcs_server: ObjectStore, gcs_store: GcsStore, tmp_path: Path
):
    for name, size in (("small", 1000), ("large", 3_000_000)):
        gcs_server.put("photos", f"set/{name}", bytes(size))
    pull(gcs_store, tmp_path / "to")
    ledger = Ledger.load(tmp_path / "to")
    for info in gcs_store.list():
        assert ledger.knows(info, tmp_path / "to" / info.name)
