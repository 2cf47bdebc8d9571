"""One job from and to a bucket, killed again and again behind a proxy that breaks things, and the same undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job.demo.object_store import ObjectStore
from job.quiet import import_tensorflow
from job.storage import at, transfer
from tests.e2e.tiny import REPOSITORY, make_squares, train_arguments, weights
from tests.ports import free_ports
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


class Signals:
    """How many signals are still to be sent, to which of the workers and at which moment of its next try.

    To one at a time: each of several workers ends all of them, so that the next one is started again as well.
    """

    def __init__(self, num: int, num_workers: int, longest: int, rng: random.Random, until_s: float) -> None:
        self._num, self._num_workers, self._longest, self._rng, self._until_s = num, num_workers, longest, rng, until_s
        self._num_sent = 0
        self._next = rng.randrange(num_workers)

    @property
    def are_sent(self) -> bool:
        return self._num_sent >= self._num or time.monotonic() > self._until_s

    def plan(self, worker: int) -> dict[str, Any]:
        """Returns the plan of a worker's next try; nothing where the next signal is another's."""
        if self.are_sent or worker != self._next:
            return {}
        self._num_sent += 1
        self._next = self._rng.randrange(self._num_workers)
        kind = signal.SIGTERM if self._num_sent % SIGTERM_EVERY == 0 else signal.SIGKILL
        return {"signal": kind, "after": self._rng.randint(1, self._longest)}


def run(
    *,
    kills: int,
    replicas: int,
    seed: int,
    max_s: float,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Runs jobs to their end until all signals are sent, and compares each with one that nothing disturbed.

    Args:
        kills: Signals sent; fewer where `max_s` is over before.
        replicas: Virtual devices.
        max_s: Seconds after which no more signals are sent.
        workers: Processes that train together; any of them gets a signal, and each is started again by itself, as the
            pods of a Job are.
        say: Told about each end.
    """
    outcome, started_s = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ObjectStore() as store, Proxy(store.url, seed=seed) as proxy:
        folder = Path(scratch)
        make_squares(folder / "data")
        store.make_bucket("bucket")
        os.environ["STORAGE_EMULATOR_HOST"] = store.url
        transfer.push(folder / "data", at("gs://bucket/data"))
        settings = ["checkpoint.every_steps=4"]
        settings += ["train.strategy=mirrored", f"train.replicas={replicas}"] if replicas > 1 else []
        crew = Crew(outcome, folder, settings, workers, say)
        crew.work("calm", store.url, None)
        assert outcome.codes == {0: workers}, outcome.codes
        outcome.codes.clear()
        proxy.rules = [Rule.from_json(rule) for rule in FAULTS]
        # A restart makes about six events (lease, status, logs) before it does something new; twenty kills see a job
        # through all of its stages. With several workers each kill ends all of them, and there are fewer.
        longest = 8 + _num_events(crew.log("calm", 0)) // (10 if workers == 1 else 3)
        signals = Signals(kills, workers, longest, random.Random(seed), started_s + max_s)
        while not outcome.differences and (not signals.are_sent or not outcome.num_rounds):
            name = f"chaos-{outcome.num_rounds}"
            is_done = crew.work(name, proxy.url, signals)
            outcome.num_rounds += 1
            if is_done:
                _compare(outcome, folder, name, crew.log(name, 0))
            else:
                outcome.differences.append(f"{name} never finished")
        outcome.counts = proxy.counts()
    outcome.seconds = time.monotonic() - started_s
    return outcome


class Crew:
    """The processes of one job after another, each of them started again whenever it ends."""

    def __init__(
        self, outcome: Outcome, folder: Path, settings: list[str], num: int, say: Callable[[str], None]
    ) -> None:
        self._outcome, self._folder, self._settings, self._num, self._say = outcome, folder, settings, num, say
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._is_over = False

    def log(self, name: str, worker: int) -> Path:
        return self._folder / f"{name}-{worker}.jsonl"

    def work(self, name: str, url: str, signals: Signals | None) -> bool:
        """Returns whether every worker finished the job `name`, however often it had to be started.

        Raises:
            AssertionError: When one ended as none should. With what it said.
        """
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self._num)]
        with ThreadPoolExecutor(self._num) as pool:
            jobs = [pool.submit(self._see_to_its_end, name, url, signals, addresses, n) for n in range(self._num)]
            try:
                return all(job.result() for job in as_completed(jobs))
            finally:
                # Whoever waits for one that failed.
                self._is_over = not all(job.done() and not job.exception() for job in jobs)
                for process in self._running.values() if self._is_over else ():
                    process.kill()

    def _see_to_its_end(self, name: str, url: str, signals: Signals | None, addresses: list[str], worker: int) -> bool:
        log, num_left_alone = self.log(name, worker), 0
        environ = {**os.environ, "STORAGE_EMULATOR_HOST": url}
        if self._num > 1:
            task = {"type": "worker", "index": worker}
            environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        # Each on a disk of its own.
        work = self._folder / f"{name}-{worker}"
        arguments = train_arguments("gs://bucket/data", f"gs://bucket/{name}", work, *self._settings)
        while num_left_alone < MAX_LAST_TRIES and not self._is_over:
            with self._lock:
                plan = signals.plan(worker) if signals else {}
                num_left_alone += signals is None or signals.are_sent
            code = self._attempt({**plan, "log": str(log)}, arguments, environ, worker, log)
            moment = f"{plan['signal'].name} at event {plan['after']}" if plan else "left alone"
            self._say(f"{name}, worker {worker}: {moment}, exit {code}")
            if code == 0:
                return True
        return False

    def _attempt(
        self, plan: dict[str, Any], arguments: list[str], environ: dict[str, str], worker: int, log: Path
    ) -> int:
        victim = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.victim", json.dumps(plan), *arguments],
            cwd=REPOSITORY,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running[worker] = victim
        try:
            said = victim.communicate(timeout=600)
        finally:
            victim.kill()
            victim.wait()
        with self._lock:
            return _ended(self._outcome, victim.returncode, said, log)


def _ended(outcome: Outcome, code: int, said: tuple[str, str], log: Path) -> int:
    """Counts an end; one that is neither ours, nor a finish, nor "try again" is a fault of the job.

    Raises:
        AssertionError: With what the job said.
    """
    expected = (0, 75, 143, -signal.SIGKILL)
    assert code in expected, f"exit {code}\n{said[0][-2000:]}\n{said[1][-4000:]}"
    outcome.codes[code] += 1
    with log.open("a") as file:
        file.write(json.dumps({"kind": "end", "name": str(code)}) + "\n")
    return code


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
