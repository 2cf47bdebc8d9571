"""Where the training runs: one device, all GPUs of a machine, or several machines.

The batch is global: each replica takes its share of the same examples, whatever their number. Where the
batch does not divide evenly, shares are padded with examples of weight 0, so shapes stay static.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from job.config import TrainConfig
from job.errors import ConfigError


@dataclass(frozen=True)
class Distribution:
    """A strategy and what the job asks of it.

    Attributes:
        strategy: tf.distribute.Strategy.
        name: single, mirrored or multi_worker.
        num_replicas: Over all workers.
        num_local: On this worker.
        worker: 0 is the chief, which alone writes.
    """

    strategy: Any
    name: str
    num_replicas: int
    num_local: int
    worker: int = 0

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    @property
    def has_gpu(self) -> bool:
        return bool(tf.config.list_logical_devices("GPU"))

    def describe(self) -> str:
        """Returns what the training runs on, for people: "2 x CPU", "8 x NVIDIA H100"."""
        gpus = tf.config.list_physical_devices("GPU")
        kind = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
        return f"{self.num_replicas} x {kind}"

    def split(self, array: np.ndarray) -> Any:
        """Returns this worker's replicas' shares of a global batch [B, ...], each padded to ceil(B / replicas)."""
        rows = share_rows(len(array), self.num_replicas)

        def share(context: Any) -> Any:
            first = context.replica_id_in_sync_group * rows
            return tf.constant(padded(array[first : first + rows], rows))

        return self.strategy.experimental_distribute_values_from_function(share)

    def split_locally(self, array: np.ndarray) -> Any:
        """As `split`, over this worker's replicas alone: every worker computes all rows for itself."""
        rows = share_rows(len(array), self.num_local)

        def share(context: Any) -> Any:
            first = context.replica_id_in_sync_group % self.num_local * rows
            return tf.constant(padded(array[first : first + rows], rows))

        return self.strategy.experimental_distribute_values_from_function(share)

    def local_results(self, value: Any) -> tuple[Any, ...]:
        results: tuple[Any, ...] = self.strategy.experimental_local_results(value)
        return results

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self.strategy.run(function, args=args)


def share_rows(batch: int, num_replicas: int) -> int:
    """Returns the rows of each replica's share."""
    return -(-batch // num_replicas)


def padded(rows: np.ndarray, num: int) -> np.ndarray:
    """Returns `rows` with zeros appended to length `num`."""
    if len(rows) == num:
        return rows
    return np.concatenate([rows, np.zeros((num - len(rows), *rows.shape[1:]), rows.dtype)])


def make(config: TrainConfig) -> Distribution:
    """Returns the distribution that the config asks for. Call once, before any other use of TensorFlow.

    Raises:
        ConfigError: When TF_CONFIG is missing or wrong for multi_worker, or replicas exceed the GPUs.
    """
    name = config.strategy
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        is_mirrored = (config.replicas or len(gpus)) > 1
        name = "multi_worker" if num_workers() > 1 else "mirrored" if is_mirrored else "single"
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if name == "single":
        return Distribution(tf.distribute.get_strategy(), name, num_replicas=1, num_local=1)
    if name == "mirrored":
        strategy = _mirrored(_devices(config.replicas, num_gpus=len(gpus)))
        num = strategy.num_replicas_in_sync
        return Distribution(strategy, name, num_replicas=num, num_local=num)
    if num_workers() < 2:
        raise ConfigError(
            f"train.strategy is multi_worker, but TF_CONFIG is {os.environ.get('TF_CONFIG', 'not set')!r}.",
            next_step="Set TF_CONFIG with a cluster of at least two workers, or use train.strategy=mirrored.",
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES") and gpus:
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation.NCCL
        )
    else:
        options = tf.distribute.experimental.CommunicationOptions()
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    num = strategy.num_replicas_in_sync
    resolver = strategy.cluster_resolver
    worker = resolver.task_id + (1 if resolver.task_type == "worker" and _has_chief() else 0)
    return Distribution(strategy, name, num_replicas=num, num_local=num // num_workers(), worker=worker)


def num_workers() -> int:
    """Returns the number of training machines that TF_CONFIG names; 1 where it is not set.

    Raises:
        ConfigError: When TF_CONFIG is not what TensorFlow expects.
    """
    cluster = _cluster()
    return max(1, len(cluster.get("chief", [])) + len(cluster.get("worker", [])))


def _has_chief() -> bool:
    return bool(_cluster().get("chief"))


def _cluster() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        cluster: dict[str, list[str]] = json.loads(text).get("cluster", {})
        if not all(isinstance(addresses, list) for addresses in cluster.values()):
            raise TypeError
        return cluster
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"TF_CONFIG is not the JSON that TensorFlow expects: {text!r}.",
            next_step='Set it to {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.',
        ) from error


@functools.cache
def _mirrored(devices: tuple[str, ...] | None) -> Any:
    """Returns the one strategy of a process for these devices.

    A second one would number its collective operations from the start again, and TensorFlow 2.21 refuses a number
    that it knows with another shape ("Shape mismatch in the collective instance").
    """
    return tf.distribute.MirroredStrategy(devices)


def _devices(replicas: int | None, *, num_gpus: int) -> tuple[str, ...] | None:
    """Returns the devices of a mirrored strategy; None means all GPUs."""
    if replicas is None:
        return None
    if num_gpus:
        if replicas > num_gpus:
            raise ConfigError(
                f"train.replicas is {replicas}, but {num_gpus} GPU(s) are visible.",
                next_step=f"Set train.replicas to at most {num_gpus}, or leave it out to use all.",
            )
        return tuple(f"GPU:{number}" for number in range(replicas))
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) < replicas:
        tf.config.set_logical_device_configuration(cpu, wanted)
    return tuple(f"CPU:{number}" for number in range(replicas))


def policy(config: TrainConfig) -> str:
    """Returns the Keras dtype policy; "auto" is mixed_bfloat16 where every GPU computes in it, else float32.

    Source: NVIDIA's CUDA C++ guide, bfloat16 from compute capability 8.0 (Ampere) on.
    """
    if config.precision == "auto":
        gpus = tf.config.list_physical_devices("GPU")
        capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
        return "mixed_bfloat16" if gpus and min(capable) >= (8, 0) else "float32"
    return config.precision if config.precision == "float32" else f"mixed_{config.precision}"
