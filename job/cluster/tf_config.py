"""Which machines train together, and which of them this one is: what TF_CONFIG says.

Worker 0, the chief, alone holds the lease and writes to the output; the others train with it and read.
Source: tensorflow.org/guide/distributed_training, "Setting up the TF_CONFIG environment variable".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from job.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Cluster:
    """The machines of one run.

    Attributes:
        num_workers: The chief included.
        worker: This machine's number, 0 for the chief.
        addresses: `host:port` of each, the chief's first; empty for one machine.
    """

    num_workers: int = 1
    worker: int = 0
    addresses: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_chief(self) -> bool:
        return self.worker == 0


ALONE = Cluster()


def of(strategy: str, environ: Mapping[str, str]) -> Cluster:
    """Returns the cluster of a run; one machine where `train.strategy` asks for no more.

    Raises:
        ConfigError: When TF_CONFIG is not what TensorFlow expects, or names fewer than two workers for multi_worker.
    """
    if strategy not in ("auto", "multi_worker"):
        return ALONE
    text = environ.get("TF_CONFIG", "")
    cluster = _parsed(text) if text else ALONE
    if strategy == "multi_worker" and cluster.num_workers < 2:
        raise ConfigError(
            f"train.strategy is multi_worker, but TF_CONFIG is {text!r}.",
            next_step="Set TF_CONFIG with a cluster of at least two workers, or use train.strategy=mirrored.",
        )
    return cluster


def _parsed(text: str) -> Cluster:
    try:
        found: dict[str, Any] = json.loads(text)
        addresses = found.get("cluster", {})
        if not all(isinstance(each, list) for each in addresses.values()):
            raise TypeError
        chiefs = addresses.get("chief", [])
        workers = [*chiefs, *addresses.get("worker", [])]
        if len(workers) < 2:
            return ALONE
        task = found["task"]
        worker = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
        if task["type"] not in ("chief", "worker") or not 0 <= worker < len(workers):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"TF_CONFIG is not the JSON that TensorFlow expects: {text!r}.",
            next_step='Set it to {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.',
        ) from error
    return Cluster(len(workers), worker, tuple(workers))
