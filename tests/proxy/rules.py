"""Which request meets which fault: rules in an order, the first that applies decides.

As JSON, a rule is one flat object; the fault's own fields stand beside the rule's:

    {"fault": "status", "code": 503, "retry_after_s": 2, "path": "alt=media", "times": 20}
    {"fault": "reset", "after_bytes": 1000, "share": 0.05}
    {"fault": "status", "code": 403, "after": 150}          permission is withdrawn at the 151st request
    {"fault": "refuse"}                                     the store is away until the rule is taken back
"""

from __future__ import annotations

import dataclasses
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from job.demo.object_store import faults
from job.demo.object_store.faults import Fault

FAULTS: dict[str, type[Fault]] = {
    "status": faults.Status,
    "refuse": faults.Refuse,
    "reset": faults.Reset,
    "break_upload": faults.BreakUpload,
    "stall": faults.Stall,
    "drip": faults.Drip,
    "corrupt": faults.Corrupt,
    "truncate": faults.Truncate,
    "no_hash": faults.NoHash,
}


@dataclass
class Rule:
    """One fault and the requests that meet it.

    Attributes:
        method: Regular expression that the whole method must match; "" is any.
        path: Regular expression searched for in the decoded path with its query; "" is any.
        after: So many matching requests pass unharmed first.
        times: So many meet the fault after that; None is no limit.
        share: Of those, the part that meets it, drawn from the proxy's seed.
    """

    fault: Fault
    method: str = ""
    path: str = ""
    after: int = 0
    times: int | None = None
    share: float = 1.0
    num_seen: int = field(default=0, compare=False)
    num_hit: int = field(default=0, compare=False)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Rule:
        """Returns a rule; ValueError names what is wrong with it."""
        left = dict(said)
        kind = FAULTS.get(left.pop("fault", ""))
        if kind is None:
            raise ValueError(f"{said}: 'fault' is one of {', '.join(FAULTS)}")
        own = {name.name for name in dataclasses.fields(cls)} - {"fault", "num_seen", "num_hit"}
        try:
            mine = {name: left.pop(name) for name in list(left) if name in own}
            return cls(kind(**left), **mine)
        except TypeError as error:
            raise ValueError(f"{said}: {error}; a rule has {', '.join(sorted(own))}") from error

    def to_json(self) -> dict[str, Any]:
        name = next(name for name, kind in FAULTS.items() if kind is type(self.fault))
        mine = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "fault"}
        return {"fault": name, **dataclasses.asdict(self.fault), **mine}  # type: ignore[call-overload]

    def matches(self, method: str, target: str) -> bool:
        return bool(re.fullmatch(self.method or ".*", method) and re.search(self.path, unquote(target)))


class Rules:
    """The rules of one proxy. Thread-safe; the same seed and the same order of requests meet the same faults."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    @property
    def all(self) -> list[Rule]:
        with self._lock:
            return list(self._rules)

    def replace(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            self._rules = list(rules)

    def decide(self, method: str, target: str) -> Fault | None:
        """Returns what goes wrong with this request."""
        with self._lock:
            for rule in self._rules:
                if not rule.matches(method, target):
                    continue
                rule.num_seen += 1
                is_due = rule.num_seen > rule.after and (rule.times is None or rule.num_hit < rule.times)
                if is_due and (rule.share >= 1.0 or self._random.random() < rule.share):
                    rule.num_hit += 1
                    return rule.fault
        return None
