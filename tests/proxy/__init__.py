"""A proxy in front of an object store that breaks what passes through it, as it is told to.

    with Proxy(store.url, seed=0) as proxy:
        os.environ["STORAGE_EMULATOR_HOST"] = proxy.url
        proxy.rules = [Rule(Status(503), path="alt=media", times=20)]

As a process of its own, for whole jobs: `python -m tests.proxy --help`. Standard library, and the faults and the
HTTP of `job.demo.object_store`; what the store itself says stays as it is, so any store that speaks HTTP can be behind.

    proxy.py      the port, and a thread a connection     rules.py    which request meets which fault
    control.py    the same over a second port             counts.py   what passed, what was broken, what came twice
"""

from tests.proxy.proxy import Proxy
from tests.proxy.rules import Rule

__all__ = ["Proxy", "Rule"]
