"""Where the training runs: one device, all GPUs of a machine, or several machines.

The batch is global: each replica takes its share of the same examples, whatever their number. Where the
batch does not divide evenly, shares are padded with examples of weight 0, so shapes stay static.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from job.cluster import ALONE, Cluster
from job.config import TrainConfig
from job.errors import ConfigError

_CHUNK = 1 << 20
"""Numbers that are summed over the workers in one go: 4 MB of float32."""


@dataclass(frozen=True)
class Distribution:
    """A strategy and what the job asks of it.

    Attributes:
        strategy: tf.distribute.Strategy.
        name: single, mirrored or multi_worker.
        num_replicas: Over all workers.
        num_local: On this worker.
        num_workers: Machines.
        worker: 0 is the chief, which alone writes.
    """

    strategy: Any
    name: str
    num_replicas: int
    num_local: int
    num_workers: int = 1
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

    def fed(self, num: int) -> slice:
        """Returns which rows of a global batch of `num` this worker's replicas take in `split`."""
        rows = share_rows(num, self.num_replicas) * self.num_local
        return slice(min(self.worker * rows, num), min((self.worker + 1) * rows, num))

    def split_locally(self, array: np.ndarray) -> Any:
        """As `split`, over this worker's replicas alone: every worker computes all rows for itself."""
        rows = share_rows(len(array), self.num_local)

        def share(context: Any) -> Any:
            first = context.replica_id_in_sync_group % self.num_local * rows
            return tf.constant(padded(array[first : first + rows], rows))

        return self.strategy.experimental_distribute_values_from_function(share)

    def same(self, value: np.generic) -> Any:
        """Returns a scalar that is the same on all of this worker's replicas."""
        return self.strategy.experimental_distribute_values_from_function(lambda _: tf.constant(value))

    def sum_over_workers(self, array: np.ndarray) -> np.ndarray:
        """Returns the sum of every worker's `array`, the same on all of them. Every worker must call it."""
        if self.num_workers == 1:
            return array
        nothing = np.zeros_like(array)

        def contribution(context: Any) -> Any:
            is_first = context.replica_id_in_sync_group % self.num_local == 0
            return tf.constant(array if is_first else nothing)

        values = self.strategy.experimental_distribute_values_from_function(contribution)
        return np.asarray(self.local_results(self._total(values))[0])

    @functools.cached_property
    def _total(self) -> Callable[[Any], Any]:
        def total(value: Any) -> Any:
            # A captured constant would have no device to reduce to ("destinations can not be empty").
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        compiled: Callable[[Any], Any] = tf.function(lambda value: self.strategy.run(total, args=(value,)))
        return compiled

    def gather(self, mine: bytes) -> list[bytes]:
        """Returns every worker's bytes, in their order. Every worker must call it."""
        if self.num_workers == 1:
            return [mine]
        lengths = np.zeros(self.num_workers, np.uint64)
        lengths[self.worker] = len(mine)
        lengths = self._sum_of_bytes(lengths.view(np.uint8)).view(np.uint64)
        ends = np.cumsum(lengths).astype(np.int64)
        together = np.zeros(int(ends[-1]), np.uint8)
        together[ends[self.worker] - len(mine) : ends[self.worker]] = np.frombuffer(mine, np.uint8)
        together = self._sum_of_bytes(together)
        return [part.tobytes() for part in np.split(together, ends[:-1])]

    def _sum_of_bytes(self, array: np.ndarray) -> np.ndarray:
        """Returns uint8 [M], of which every worker has its own part and zeros elsewhere.

        Two bytes a float32, which holds them exactly: floats are what every kind of device sums.
        """
        pairs = padded(array, len(array) + len(array) % 2).view(np.uint16)
        parts = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
        sums = [self.sum_over_workers(part.astype(np.float32)).astype(np.uint16) for part in parts]
        return np.concatenate([np.zeros(0, np.uint16), *sums]).view(np.uint8)[: len(array)]

    def from_chief(self, text: str) -> str:
        """Returns the chief's `text` on every worker. Every worker must call it."""
        return self.gather(text.encode() if self.is_chief else b"")[0].decode()

    def least(self, number: int) -> int:
        """Returns the least of every worker's numbers. Every worker must call it."""
        return min(int(each) for each in self.gather(str(number).encode()))

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


def make(config: TrainConfig, cluster: Cluster = ALONE) -> Distribution:
    """Returns the distribution that the config asks for. Call once, before any other use of TensorFlow.

    Raises:
        ConfigError: When replicas exceed the GPUs, or one device is asked for several.
    """
    name = config.strategy
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        is_mirrored = (config.replicas or len(gpus)) > 1
        name = "multi_worker" if cluster.num_workers > 1 else "mirrored" if is_mirrored else "single"
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if name == "single":
        if (config.replicas or 1) > 1:
            raise ConfigError(
                f"train.strategy is single, but train.replicas is {config.replicas}.",
                next_step="Set train.strategy=mirrored, or leave train.replicas out.",
            )
        return Distribution(tf.distribute.get_strategy(), name, num_replicas=1, num_local=1)
    if name == "mirrored":
        strategy = _mirrored(_devices(config.replicas, num_gpus=len(gpus)))
        num = strategy.num_replicas_in_sync
        return Distribution(strategy, name, num_replicas=num, num_local=num)
    communication = tf.distribute.experimental.CommunicationImplementation
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(
            implementation=communication.NCCL if gpus else communication.AUTO
        )
    )
    num = strategy.num_replicas_in_sync
    return Distribution(
        strategy,
        name,
        num_replicas=num,
        num_local=num // cluster.num_workers,
        num_workers=cluster.num_workers,
        worker=cluster.worker,
    )


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
