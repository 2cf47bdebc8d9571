"""The job's pull beside Google's transfer_manager, `shutil.copytree` and a raw socket, against an object store here.

The store is a process of its own; so is every client, whose processor time is its own and its children's. What
transfer_manager does best with is looked for first, one run each. Latency is 30 ms before each first byte. The faults
are those of `tests/proxy` on one request in twenty; the clean side goes through the same proxy.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import room
import turns
from puller import BUCKET
from room import Setup
from rows import Limit, Row

OBJECT_BYTES = 25_000
PIECE_BYTES = 10_000_000
LATENCY_S = 0.03
FAULTS: list[dict[str, Any]] = [
    {"fault": "status", "code": 503},
    {"fault": "status", "code": 429},
    {"fault": "reset", "after_bytes": 1000},
    {"fault": "truncate", "after_bytes": 1000, "is_consistent": True},
    {"fault": "corrupt"},
]
"""A share of 0.01 each, of the objects' bodies."""

_BENCH = Path(__file__).parent
_WAYS = (("--workers", "2", "--processes"), ("--workers", "8", "--processes"), ("--workers", "8"))
_SLOW_WAYS = (("--workers", "16", "--processes"), ("--workers", "32"), ("--workers", "64"))

Found = dict[str, float]


class Client:
    """Pulls one folder of the bucket in one way after the other, each time into a new folder."""

    def __init__(self, setup: Setup, prefix: str, url: str) -> None:
        self._setup, self._prefix, self._url = setup, prefix, url

    def pull(self, side: str, *arguments: str) -> Found:
        """Returns {"seconds", "cpu_s", "peak_mb"} of one pull whose files are all right."""
        to = self._setup.folder / "pulled" / str(next(_numbers))
        buckets = self._setup.folder / "buckets"
        program = [sys.executable, str(_BENCH / "puller.py"), side, str(buckets), self._prefix, str(to), *arguments]
        environment = {**os.environ, "STORAGE_EMULATOR_HOST": self._url}
        done = subprocess.run(program, cwd=room.ROOT, env=environment, capture_output=True, text=True, check=False)
        # Many small files stay until the end: without a journal ext4 steps over each file that was removed near by in
        # the last minutes (recently_deleted in fs/ext4/ialloc.c). A side would pay for what those before it had
        # pulled: 0.2 ms of processor time a file in place of 0.02.
        if self._prefix == "big":
            subprocess.run(["rm", "-rf", str(to)], check=True)
        if done.returncode:
            raise SystemExit(f"{side} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
        found: Found = json.loads(done.stdout.splitlines()[-1])
        return found

    def best(self, ways: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        """Returns the arguments with which transfer_manager is fastest."""
        return min(ways, key=lambda way: self.pull("transfer_manager", *way)["seconds"])


_numbers = itertools.count()


@contextmanager
def started(*program: str) -> Iterator[str]:
    """Runs a server until the block ends; gives the first line it prints."""
    process = subprocess.Popen([sys.executable, *program], cwd=room.ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def make_bucket(setup: Setup) -> Path:
    """Makes `small/`, `few/` and `big/` of random bytes."""
    draw, folder = random.Random(0), setup.folder / "buckets"
    for prefix, num, size in (
        ("small", setup.size(60, 4000), OBJECT_BYTES),
        ("few", setup.size(60, 2000), OBJECT_BYTES),
        ("big", 1, setup.size(5_000_000, 500_000_000)),
    ):
        (folder / BUCKET / prefix).mkdir(parents=True)
        for number in range(num):
            with (folder / BUCKET / prefix / f"{number:05d}.jpg").open("wb") as file:
                for start in range(0, size, PIECE_BYTES):
                    file.write(draw.randbytes(min(PIECE_BYTES, size - start)))
    return folder


def part(found: Sequence[Found], name: str) -> tuple[float, ...]:
    return tuple(one[name] for one in found)


def small(setup: Setup, url: str) -> list[Row]:
    client, num = Client(setup, "small", url), setup.size(60, 4000)
    way = client.best(setup.size(_WAYS[-1:], _WAYS))
    found = turns.interleaved(
        {
            "job": partial(client.pull, "job"),
            "theirs": partial(client.pull, "transfer_manager", *way),
            "socket": partial(client.pull, "sockets", "--workers", "1"),
            "sockets": partial(client.pull, "sockets", "--workers", "2"),
            "copytree": partial(client.pull, "copytree"),
        },
        repeats=setup.size(1, 3),
    )
    rate = {name: turns.rates(num, part(runs, "seconds")) for name, runs in found.items()}
    cpu = {name: tuple(1e3 * one / num for one in part(runs, "cpu_s")) for name, runs in found.items()}
    note = f"{num} objects of 25 KB"
    best = f"{note}; its best: {' '.join(way)}"
    files, at_least = "files/s", partial(Limit, "ratio", at_least=True)
    return [
        Row("pull", "beside transfer_manager", files, rate["job"], rate["theirs"], at_least(2.5), best),
        Row("pull", "its processor time", "ms/file", cpu["job"], cpu["theirs"], Limit("ratio", 0.5), note),
        Row("pull", "beside a raw socket", files, rate["job"], rate["socket"], at_least(0.8), note),
        Row("pull", "beside raw sockets in two processes", files, rate["job"], rate["sockets"], None, note),
        Row("pull", "beside shutil.copytree", files, rate["job"], rate["copytree"], None, note),
    ]


def with_latency(setup: Setup, folder: Path) -> Row:
    num = setup.size(60, 2000)
    with started(str(_BENCH / "store.py"), str(folder), "--latency-s", str(LATENCY_S)) as url:
        client = Client(setup, "few", url)
        way = client.best(setup.size(_SLOW_WAYS[-1:], _SLOW_WAYS))
        found = turns.interleaved(
            {"job": partial(client.pull, "job"), "theirs": partial(client.pull, "transfer_manager", *way)},
            repeats=setup.size(1, 3),
        )
    ours, theirs = (turns.rates(num, part(found[side], "seconds")) for side in ("job", "theirs"))
    note = f"{num} objects of 25 KB; its best: {' '.join(way)}"
    limit = Limit("ratio", 4.0, at_least=True)
    return Row("pull", "beside transfer_manager, 30 ms to the first byte", "files/s", ours, theirs, limit, note)


def big(setup: Setup, url: str) -> list[Row]:
    client, size_mb = Client(setup, "big", url), setup.size(5, 500)
    found = turns.interleaved(
        {
            "job": partial(client.pull, "job"),
            "download_to_filename": partial(client.pull, "download_to_filename"),
            "socket": partial(client.pull, "sockets", "--workers", "1"),
        },
        repeats=setup.size(1, 5),
    )
    rate = {name: turns.rates(size_mb, part(runs, "seconds")) for name, runs in found.items()}
    note, limit = f"one object of {size_mb} MB", Limit("ratio", 2.5, at_least=True)
    name = "beside download_to_filename"
    return [
        Row("pull", name, "MB/s", rate["job"], rate["download_to_filename"], limit, note),
        Row("pull", "beside a raw socket", "MB/s", rate["job"], rate["socket"], None, note),
        Row("pull", "memory of its process", "MB", part(found["job"], "peak_mb"), (), Limit("value", 64), note),
    ]


def under_faults(setup: Setup, url: str) -> Row:
    rules = setup.folder / "rules.json"
    rules.write_text(json.dumps([{**one, "path": "alt=media", "share": 0.01} for one in FAULTS]))
    with (
        started("-m", "tests.proxy", "--target", url, "--seed", "0") as clean,
        started("-m", "tests.proxy", "--target", url, "--seed", "0", "--rules", str(rules)) as broken,
    ):
        clients = {
            name: Client(setup, "few", json.loads(said)["url"]) for name, said in (("faults", broken), ("clean", clean))
        }
        found = turns.interleaved(
            {name: partial(client.pull, "job") for name, client in clients.items()}, repeats=setup.size(1, 3)
        )
    ours, clean_ones = (part(found[side], "seconds") for side in ("faults", "clean"))
    note = f"{setup.size(60, 2000)} objects; 503, 429, reset, short, corrupt"
    return Row("pull", "5 % faults beside none", "s", ours, clean_ones, Limit("ratio", 2.5), note)


def measure(setup: Setup) -> list[Row]:
    folder = make_bucket(setup)
    slow = with_latency(setup, folder)
    with started(str(_BENCH / "store.py"), str(folder)) as url:
        return [*small(setup, url), slow, *big(setup, url), under_faults(setup, url)]


if __name__ == "__main__":
    sys.exit(room.main(__doc__, measure))
