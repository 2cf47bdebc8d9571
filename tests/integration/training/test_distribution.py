"""Where the training runs, and what is refused."""

from __future__ import annotations

import json

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


def tf_config(*workers: str, **task: object) -> str:
    return json.dumps({"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": 0, **task}})


def test_one_device_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    made = distribution.make(train_config())
    assert (made.name, made.num_replicas, made.num_local, made.is_chief, made.has_gpu) == ("single", 1, 1, True, False)
    assert made.describe() == "1 x CPU"


@pytest.mark.parametrize("text", ["", tf_config("a:1")])
def test_multi_worker_needs_two_workers(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=r"train\.strategy is multi_worker, but TF_CONFIG is") as caught:
        distribution.make(train_config("strategy=multi_worker"))
    assert "train.strategy=mirrored" in caught.value.next_step


@pytest.mark.parametrize(
    "text", ["{", "[]", '"worker"', "7", '{"cluster": []}', '{"cluster": {"worker": "a:1,b:2"}}', '{"cluster": 1}']
)
@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
def test_a_tf_config_that_is_none_is_refused_with_an_example(
    strategy: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match="TF_CONFIG is not the JSON that TensorFlow expects") as caught:
        distribution.make(train_config(f"strategy={strategy}"))
    assert text in caught.value.message
    assert '"cluster"' in caught.value.next_step


def test_workers_are_counted_with_the_chief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": []}}))
    assert distribution.num_workers() == 3
    monkeypatch.delenv("TF_CONFIG")
    assert distribution.num_workers() == 1


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
