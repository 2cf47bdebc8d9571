"""One job from and to a bucket, killed again and again behind a proxy that breaks things, and the same undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job.demo.object_store import ObjectStore
from job.quiet import import_tensorflow
from job.storage import at, transfer
from tests.e2e.tiny import REPOSITORY, make_squares, train_arguments, weights
from tests.proxy import Proxy, Rule

FAULTS: tuple[dict[str, Any], ...] = (
    {"fault": "status", "code": 503, "share": 0.02},
    {"fault": "status", "code": 429, "retry_after_s": 0, "share": 0.02},
    {"fault": "reset", "after_bytes": 300, "share": 0.02},
    {"fault": "corrupt", "path": "alt=media", "share": 0.02},
    {"fault": "truncate", "after_bytes": 100, "path": "alt=media", "share": 0.02},
    {"fault": "break_upload", "after_bytes": 200, "method": "POST|PUT", "share": 0.02},
)
"""Of every kind a few in a hundred requests; without a stall, which costs ten seconds each."""

SIGTERM_EVERY = 5
"""Every fifth signal asks politely."""

MAX_LAST_TRIES = 10


@dataclass
class Outcome:
    """What the chaos did, and what came of it."""

    codes: Counter[int] = field(default_factory=Counter)
    counts: dict[str, Any] = field(default_factory=dict)
    steps_done: int = 0
    steps_lost: int = 0
    steps_lost_to_sigterm: int = 0
    steps_of_result: int = 0
    steps_undisturbed: int = 0
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_kills(self) -> int:
        return self.codes[-signal.SIGKILL]

    def table(self) -> str:
        faults = self.counts["faults"]
        rows = {
            "kill -9": self.num_kills,
            "SIGTERM (exit 143)": self.codes[143],
            "gave up for now (exit 75)": self.codes[75],
            "storage faults": f"{sum(faults.values())} ({', '.join(f'{n} {k}' for k, n in sorted(faults.items()))})",
            "bytes of objects sent": f"{self.counts['content_bytes']:,}",
            "bytes fetched again": f"{self.counts['content_bytes_again']:,}",
            "training steps computed": self.steps_done,
            "computed again after a kill -9": self.steps_lost,
            "computed again after a SIGTERM": self.steps_lost_to_sigterm,
            "steps repeated in the result": self.steps_of_result - self.steps_undisturbed,
            "result": "equal" if not self.differences else f"DIFFERENT: {', '.join(self.differences)}",
            "seconds": f"{self.seconds:.0f}",
        }
        return "\n".join(f"{name:<32}{value}" for name, value in rows.items())


def run(
    *, kills: int, replicas: int, seed: int, max_s: float, say: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Runs the job until it is done, and compares it with one that nothing disturbed.

    Args:
        kills: Signals sent at most; fewer where the job is done before, or `max_s` over.
        replicas: Virtual devices.
        max_s: Seconds after which no more signals are sent.
        say: Told about each end.
    """
    outcome, rng, started_s = Outcome(), random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ObjectStore() as store, Proxy(store.url, seed=seed) as proxy:
        folder = Path(scratch)
        make_squares(folder / "data")
        store.make_bucket("bucket")
        os.environ["STORAGE_EMULATOR_HOST"] = store.url
        transfer.push(folder / "data", at("gs://bucket/data"))
        settings = ["checkpoint.every_steps=4"]
        settings += ["train.strategy=mirrored", f"train.replicas={replicas}"] if replicas > 1 else []

        def arguments(name: str) -> list[str]:
            return train_arguments("gs://bucket/data", f"gs://bucket/{name}", folder / name, *settings)

        calm = _victim({"log": str(folder / "calm.jsonl")}, arguments("calm"), store.url)
        assert calm.returncode == 0, calm.stderr
        proxy.rules = [Rule.from_json(rule) for rule in FAULTS]
        log = folder / "chaos.jsonl"
        # A restart makes about six events (lease, status, logs) before it does something new.
        longest = 8 + 2 * _num_events(folder / "calm.jsonl") // max(kills, 1)
        code = -1
        for number in range(1, kills + 1):
            if code == 0 or time.monotonic() - started_s > max_s:
                break
            kind = signal.SIGTERM if number % SIGTERM_EVERY == 0 else signal.SIGKILL
            plan = {"signal": kind, "after": rng.randint(1, longest), "log": str(log)}
            code = _ended(outcome, _victim(plan, arguments("chaos"), proxy.url), log)
            say(f"{number}: {kind.name} at event {plan['after']}, exit {code}")
        for _ in range(MAX_LAST_TRIES):
            if code == 0:
                break
            code = _ended(outcome, _victim({"log": str(log)}, arguments("chaos"), proxy.url), log)
            say(f"left alone: exit {code}")
        outcome.counts = proxy.counts()
        proxy.rules = []
        if code:
            outcome.differences.append("never finished")
        else:
            _compare(outcome, folder, log)
    outcome.seconds = time.monotonic() - started_s
    return outcome


def _victim(plan: dict[str, Any], arguments: list[str], url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.victim", json.dumps(plan), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "STORAGE_EMULATOR_HOST": url},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _ended(outcome: Outcome, done: subprocess.CompletedProcess[str], log: Path) -> int:
    """Counts an end; one that is neither ours, nor a finish, nor "try again" is a fault of the job.

    Raises:
        AssertionError: With what the job said.
    """
    expected = (0, 75, 143, -signal.SIGKILL)
    assert done.returncode in expected, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    outcome.codes[done.returncode] += 1
    with log.open("a") as file:
        file.write(json.dumps({"kind": "end", "name": str(done.returncode)}) + "\n")
    return done.returncode


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _num_events(log: Path) -> int:
    return sum((event["kind"], event["name"]) != ("bar", "pull") for event in _events(log))


def _compare(outcome: Outcome, folder: Path, log: Path) -> None:
    import_tensorflow()
    seen: set[tuple[str, tuple[int, ...]]] = set()
    lost, ended_by = 0, ""
    for event in _events(log):
        if event["kind"] == "step":
            step = (event["name"], tuple(event["images"]))
            outcome.steps_done += 1
            lost += step in seen
            seen.add(step)
        elif event["kind"] == "end":
            # What is computed again is charged to the end before.
            if ended_by == "143":
                outcome.steps_lost_to_sigterm += lost
            else:
                outcome.steps_lost += lost
            lost, ended_by = 0, event["name"]
    for name in ("calm", "chaos"):
        transfer.pull(at(f"gs://bucket/{name}"), folder / "copy" / name)
    calm, chaos = folder / "copy" / "calm", folder / "copy" / "chaos"
    outcome.steps_undisturbed, outcome.steps_of_result = (_num_steps(each) for each in (calm, chaos))
    if weights(calm) != weights(chaos):
        outcome.differences.append("weights")
    reports = [json.loads((each / "report.json").read_text()) for each in (calm, chaos)]
    outcome.differences += [part for part in ("winner", "test", "mistakes") if reports[0][part] != reports[1][part]]


def _num_steps(output: Path) -> int:
    """Returns the optimizer steps behind a result, of all phases."""
    newest = max(path.parent.name for path in (output / "checkpoints").glob("*/complete.json"))
    return int(newest.split("-")[0])
