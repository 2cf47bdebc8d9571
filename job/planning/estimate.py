"""From measured paces to the seconds, bytes and cost of a run on 1, 2, 4 and 8 devices. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

DEVICES = (1, 2, 4, 8)

LINK_BYTES_S = 10e9
"""Bytes a second that an all-reduce moves, where no measurement of the machine is at hand: below the 15.75 GB/s of
PCI Express 3.0 x16 (PCI-SIG: 8 GT/s, 128b/130b coding, 16 lanes), which the slowest machines with several GPUs have."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a piece of work that is done again and again: the first time, which compiles, and every other."""

    first_s: float
    next_s: float

    def of(self, num: int) -> float:
        """Returns the seconds of `num` times."""
        return self.first_s + (num - 1) * self.next_s if num else 0.0


@dataclass(frozen=True)
class StageEstimate:
    """One stage of the run.

    Attributes:
        host_s: Seconds that more devices do not shorten.
        device_s: Seconds on as many devices as were measured, which more devices share.
        num_images: Passed through it; 0 where it handles none.
        num_steps: Optimizer steps, each with an all-reduce of `gradient_bytes`.
        step_host_s: Of `device_s`, seconds a step that do not depend on its images.
        memory_bytes: Peak when it was rehearsed, of a GPU or else of the process; None where it was not.
        is_done: Whether the plan did it already: a run that follows finds it done.
    """

    name: str
    host_s: float = 0.0
    device_s: float = 0.0
    num_images: int = 0
    num_steps: int = 0
    step_host_s: float = 0.0
    gradient_bytes: int = 0
    memory_bytes: int | None = None
    is_done: bool = False

    def seconds(self, num_devices: int, *, measured_on: int, link_bytes_s: float = LINK_BYTES_S) -> float:
        """Returns the stage's seconds on devices like the measured ones, their batch being the same in all.

        An all-reduce in a ring moves 2 (n - 1) / n of the gradients over each link (Patarasuk and Yuan 2009).
        """
        fixed_s = min(self.num_steps * self.step_host_s, self.device_s)
        shared_s = (self.device_s - fixed_s) * measured_on / num_devices

        def exchanged_s(num: int) -> float:
            return self.num_steps * 2 * (num - 1) / num * self.gradient_bytes / link_bytes_s

        # What the measurement had of it is in `device_s`.
        more_s = max(exchanged_s(num_devices) - exchanged_s(measured_on), 0.0)
        return self.host_s + fixed_s + shared_s + more_s


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        devices: What was measured, for people: "1 x CPU".
        measured_on: Replicas.
        batch: Global.
        num_checkpoints: Written in all.
        disk_bytes: What → bytes on local disk.
    """

    devices: str
    measured_on: int
    batch: int
    stages: Sequence[StageEstimate]
    num_checkpoints: int
    checkpoint_bytes: int
    disk_bytes: dict[str, int]
    link_bytes_s: float = LINK_BYTES_S

    def seconds(self, num_devices: int, *, remaining: bool = False) -> float:
        """Returns the seconds of the whole run, or of what a run that follows has still to do."""
        return math.fsum(
            stage.seconds(num_devices, measured_on=self.measured_on, link_bytes_s=self.link_bytes_s)
            for stage in self.stages
            if not (remaining and stage.is_done)
        )

    def cost(self, num_devices: int, price_per_hour: float) -> float:
        """Returns the price of the run, each device with its share of the machine at `price_per_hour`."""
        return self.seconds(num_devices) / 3600 * num_devices * price_per_hour

    def to_dict(self, price_per_hour: float | None) -> dict[str, Any]:
        """Returns everything as plain values, for JSON."""
        columns = sorted({*DEVICES, self.measured_on})
        return {
            "devices": self.devices,
            "measured_on": self.measured_on,
            "batch": self.batch,
            "stages": [
                asdict(stage)
                | {
                    "seconds": {
                        str(num): stage.seconds(num, measured_on=self.measured_on, link_bytes_s=self.link_bytes_s)
                        for num in columns
                    }
                }
                for stage in self.stages
            ],
            "seconds": {str(num): self.seconds(num) for num in columns},
            "remaining_s": self.seconds(self.measured_on, remaining=True),
            "cost": {str(num): self.cost(num, price_per_hour) for num in columns} if price_per_hour else None,
            "checkpoints": {"number": self.num_checkpoints, "bytes": self.checkpoint_bytes},
            "disk_bytes": self.disk_bytes,
            "link_bytes_s": self.link_bytes_s,
        }
