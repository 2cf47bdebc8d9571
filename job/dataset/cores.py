"""How many processors this process may use: what decoding in parallel goes by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")


def num_cores() -> int:
    """Returns the number of usable cores: the affinity mask, lowered to a container's CPU limit, at least 1.

    A container limited to 2 CPUs on a 64-core machine sees all 64; 64 processes would be throttled.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max: quota and period, microseconds)
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota_us, period_us = _CPU_MAX.read_text(encoding="ascii").split()
        return max(1, min(available, -(-int(quota_us) // int(period_us))))
    except (OSError, ValueError):  # No cgroup v2, or "max": no limit.
        return available
