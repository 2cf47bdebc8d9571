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

    num_rounds: int = 0
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
            "jobs seen to their end": self.num_rounds,
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
    """Runs jobs to their end until all signals are sent, and compares each with one that nothing disturbed.

    Args:
        kills: Signals sent; fewer where `max_s` is over before.
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
        # A restart makes about six events (lease, status, logs) before it does something new; twenty kills see a job
        # through all of its stages.
        longest = 8 + _num_events(folder / "calm.jsonl") // 10
        num_sent = 0
        while not outcome.differences and (num_sent < kills or not outcome.num_rounds):
            name, code = f"chaos-{outcome.num_rounds}", -1
            log = folder / f"{name}.jsonl"
            while code != 0 and num_sent < kills:
                num_sent += 1
                kind = signal.SIGTERM if num_sent % SIGTERM_EVERY == 0 else signal.SIGKILL
                plan = {"signal": kind, "after": rng.randint(1, longest), "log": str(log)}
                code = _ended(outcome, _victim(plan, arguments(name), proxy.url), log)
                say(f"{name}, {num_sent}: {kind.name} at event {plan['after']}, exit {code}")
                if time.monotonic() - started_s > max_s:
                    kills = num_sent
            for _ in range(MAX_LAST_TRIES):
                if code == 0:
                    break
                code = _ended(outcome, _victim({"log": str(log)}, arguments(name), proxy.url), log)
                say(f"{name}, left alone: exit {code}")
            outcome.num_rounds += 1
            if code:
                outcome.differences.append(f"{name} never finished")
            else:
                _compare(outcome, folder, name, log)
        outcome.counts = proxy.counts()
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


def _compare(outcome: Outcome, folder: Path, name: str, log: Path) -> None:
    import_tensorflow()
    # How the attempt ended in which a step was computed last: that end is what cost it, however many came since.
    attempts: dict[tuple[str, tuple[int, ...]], int] = {}
    ends: list[str] = []
    for event in _events(log):
        if event["kind"] == "end":
            ends.append(event["name"])
        elif event["kind"] == "step":
            step = (event["name"], tuple(event["images"]))
            outcome.steps_done += 1
            if step in attempts and ends[attempts[step]] == "143":
                outcome.steps_lost_to_sigterm += 1
            elif step in attempts:
                outcome.steps_lost += 1
            attempts[step] = len(ends)
    for each in ("calm", name):
        transfer.pull(at(f"gs://bucket/{each}"), folder / "copy" / each)
    calm, chaos = folder / "copy" / "calm", folder / "copy" / name
    outcome.steps_undisturbed += _num_steps(calm)
    outcome.steps_of_result += _num_steps(chaos)
    if weights(calm) != weights(chaos):
        outcome.differences.append(f"weights of {name}")
    reports = [json.loads((each / "report.json").read_text()) for each in (calm, chaos)]
    parts = ("winner", "test", "mistakes")
    outcome.differences += [f"{part} of {name}" for part in parts if reports[0][part] != reports[1][part]]


def _num_steps(output: Path) -> int:
    """Returns the optimizer steps behind a result, of all phases."""
    newest = max(path.parent.name for path in (output / "checkpoints").glob("*/complete.json"))
    return int(newest.split("-")[0])
