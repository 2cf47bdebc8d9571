"""Where the training runs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from job import config as configs
from job.config import TrainConfig
from job.errors import ConfigError
from job.training import distribution


def train_config(*overrides: str) -> TrainConfig:
    return configs.load(None, [f"train.{override}" for override in overrides]).train


def test_one_device_is_the_default() -> None:
    made = distribution.make(train_config())
    assert (made.name, made.num_replicas, made.num_local, made.is_chief, made.has_gpu) == ("single", 1, 1, True, False)
    assert made.describe() == "1 x CPU"


def test_one_device_is_not_asked_for_several_replicas() -> None:
    with pytest.raises(ConfigError, match=r"train\.strategy is single, but train\.replicas is 2"):
        distribution.make(train_config("strategy=single", "replicas=2"))


def test_more_replicas_than_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.replicas is 4, but 2 GPU\(s\) are visible") as caught:
        distribution._devices(4, num_gpus=2)
    assert "at most 2" in caught.value.next_step
    assert list(distribution._devices(2, num_gpus=4) or ()) == ["GPU:0", "GPU:1"]
    assert distribution._devices(None, num_gpus=4) is None


@pytest.mark.parametrize(
    ("precision", "policy"),
    [("auto", "float32"), ("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")],
)
def test_precision_without_a_gpu(precision: str, policy: str) -> None:
    assert distribution.policy(train_config(f"precision={precision}")) == policy


@given(batch=st.integers(1, 70), num_replicas=st.integers(1, 9))
def test_shares_hold_every_example_once_and_are_of_one_length(batch: int, num_replicas: int) -> None:
    rows = distribution.share_rows(batch, num_replicas)
    array = np.arange(1, batch + 1)
    shares = [distribution.padded(array[n * rows : (n + 1) * rows], rows) for n in range(num_replicas)]
    assert {len(share) for share in shares} == {rows}
    together = np.concatenate(shares)
    np.testing.assert_array_equal(together[:batch], array)
    assert (together[batch:] == 0).all()


def test_one_device_takes_the_whole_batch() -> None:
    single = distribution.Distribution(tf.distribute.get_strategy(), "single", num_replicas=1, num_local=1)
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    for split in (single.split, single.split_locally):
        (share,) = single.local_results(split(batch))
        np.testing.assert_array_equal(share.numpy(), batch)
