"""What a thread frees serves its next allocation; the system is not asked for the same pages again."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
import resource, sys, threading
from job.malloc import keep_freed_memory

keep_freed_memory()

def allocate(times):
    for _ in range(times):
        b"x" * (48 << 20)  # more than glibc ever keeps by itself (malloc.h, M_MMAP_THRESHOLD: 32 MB)

def in_a_thread(times):
    thread = threading.Thread(target=allocate, args=(times,))
    thread.start()
    thread.join()

in_a_thread(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
in_a_thread(5)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def test_memory_that_was_freed_does_not_fault_in_again() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 << 20
