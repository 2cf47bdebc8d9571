"""TensorFlow's import, quick, and without the dozen lines it prints to stderr before any logging setting holds.

They come from C++ below Python's logging. Held back in a temporary file and printed only if the import fails.
With TF_CPP_MIN_LOG_LEVEL=0 in the environment they come again, from the first operation on.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from job.malloc import keep_freed_memory


def import_tensorflow() -> None:
    """Imports TensorFlow and looks for devices, quietly."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # NumPy's threads spin while they wait and take the processors from TensorFlow's: the probe on 600 x 1280 features
    # took 1.7 s with two of them and 0.1 s with one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # The trials of train.batch=auto and whatever else runs on the GPU have to find memory beside this process.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Kernels are launched from threads of each GPU's own, which the feed's work cannot hold up. Source: TensorFlow's
    # guide "Optimize TensorFlow GPU performance with the TensorFlow Profiler".
    os.environ.setdefault("TF_GPU_THREAD_MODE", "gpu_private")
    # Before the first of TensorFlow's threads starts.
    keep_freed_memory()
    with _stderr_held_back(), _no_garbage():
        import tensorflow as tf

        tf.config.list_physical_devices()
        # "Using MirroredStrategy with devices …" and the like: the job says it itself.
        tf.get_logger().setLevel("ERROR")
        # tf.summary is TensorBoard's, which spends 0.3 s on boto3, where that is installed, for a file system in whose
        # place TensorFlow's is used.
        with _left_out("boto3"):
            importlib.import_module("tensorboard.summary")


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Spares what is imported meanwhile the collector's passes, now and ever after: it stays until the end.

    Measured: 2.3 s for TensorFlow's import with them and 1.8 s without; tracing a model, 2.8 and 2.3 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()


@contextmanager
def _left_out(module: str) -> Iterator[None]:
    """Makes the first import of a module fail meanwhile, as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
