"""Worker processes that hang are ended, wherever they were stopped, and no others."""

from __future__ import annotations

import multiprocessing
import os
import signal

from job.dataset.overdue import Activity, Watch


def test_a_worker_that_is_stopped_before_it_took_its_place_is_ended_too() -> None:
    context = multiprocessing.get_context("forkserver")
    other = context.Process(target=signal.pause)
    other.start()
    watch = Watch(Activity(context, 1), 2.0)
    worker = context.Process(target=signal.pause)
    worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    watch.kill()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert other.is_alive(), "a process of somebody else"
    other.kill()
    other.join()
