"""One, two or four replicas, micro-batches, XLA: the same batches and the same losses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def train() -> Iterator[Train]:
    """Returns a function that trains with some settings, each once, in one process for each number of replicas."""
    with ExitStack() as stack:

        @cache
        def process(replicas: int) -> subprocess.Popen[str]:
            return stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.integration.training.replicas"],
                    cwd=REPOSITORY,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

        @cache
        def trained(settings: str) -> dict[str, Any]:
            to = process(json.loads(settings)["replicas"])
            assert to.stdin is not None
            assert to.stdout is not None
            to.stdin.write(settings + "\n")
            to.stdin.flush()
            found: dict[str, Any] = json.loads(to.stdout.readline())
            return found

        yield lambda **settings: trained(json.dumps({"replicas": 1, "batch": 8, **settings}, sort_keys=True))


def _assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["batches"] == second["batches"]
    np.testing.assert_allclose(first["losses"], second["losses"], rtol=1e-5)
    for mine, theirs in zip(first["last"], second["last"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_training_moves_the_loss(train: Train) -> None:
    losses = train()["losses"]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_change_nothing(train: Train, replicas: int) -> None:
    _assert_same(train(), train(replicas=replicas))


def test_a_batch_that_does_not_divide_changes_nothing(train: Train) -> None:
    # 7 examples over 4 replicas: shares of 2, 2, 2 and 1 with one of weight 0.
    _assert_same(train(batch=7), train(batch=7, replicas=4))


@pytest.mark.parametrize("replicas", [1, 2])
def test_micro_batches_change_nothing(train: Train, replicas: int) -> None:
    _assert_same(train(), train(accumulate=3, replicas=replicas))


@pytest.mark.parametrize("replicas", [1, 2])
def test_several_steps_in_a_call_change_nothing(train: Train, replicas: int) -> None:
    single, several = train(), train(at_once=4, replicas=replicas)
    # The loss is that of a call's last step: the fourth, and the sixth at the end.
    _assert_same({**single, "losses": [single["losses"][3], single["losses"][5]]}, several)


def test_xla_changes_nothing(train: Train) -> None:
    _assert_same(train(), train(xla=True))


def test_the_loss_is_the_weighted_smoothed_cross_entropy(train: Train) -> None:
    weights, smoothing = np.array([2.0, 0.5, 0.5]), 0.1
    found = train(steps=1, class_weights=weights.tolist(), label_smoothing=smoothing)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(37, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 37)
    top_kernel, top_bias, kernel, bias = (np.array(value) for value in found["first"])
    batch = found["batches"][0]
    logits = np.tanh(features[batch] @ kernel + bias) @ top_kernel + top_bias
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(3)[labels[batch]] * (1 - smoothing) + smoothing / 3
    np.testing.assert_allclose(found["losses"][0], -(targets * weights * logs).sum(axis=1).mean(), rtol=1e-5)


def test_layer_decay_scales_the_update_of_lower_blocks(train: Train) -> None:
    phase = {"optimizer": "sgd", "weight_decay": 0.0, "warmup_steps": 0, "clip_norm": None}
    plain = train(steps=1, phase={**phase, "layer_decay": 1.0})
    decayed = train(steps=1, phase={**phase, "layer_decay": 0.25})
    for place, factor in enumerate([1.0, 1.0, 0.25, 0.25]):
        moved = [np.array(run["last"][place]) - np.array(run["first"][place]) for run in (plain, decayed)]
        assert np.abs(moved[0]).max() > 1e-5
        np.testing.assert_allclose(moved[1], factor * moved[0], atol=1e-6)


def test_the_gradient_of_the_mean_loss_is_clipped(train: Train) -> None:
    phase = {"optimizer": "sgd", "weight_decay": 0.0, "warmup_steps": 0, "layer_decay": 1.0, "learning_rate": 1.0}
    found = train(steps=1, phase={**phase, "clip_norm": 1e-3}, replicas=2)
    moved = np.concatenate(
        [(np.array(b) - np.array(a)).ravel() for a, b in zip(found["first"], found["last"], strict=True)]
    )
    # Nesterov's first step is 1 + momentum times the gradient.
    np.testing.assert_allclose(np.linalg.norm(moved), 1.9e-3, rtol=1e-3)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_loss_that_is_not_finite_is_refused_before_anything_moves(train: Train, replicas: int) -> None:
    # Weight decay would move the weights without any gradient.
    phase = {"optimizer": "adamw", "weight_decay": 0.1, "warmup_steps": 0}
    poisoned = train(batch=37, poison=5, replicas=replicas, steps=1, phase=phase)
    assert "not finite" in poisoned["error"]
    assert poisoned["last"] == poisoned["first"]


def test_loss_scaling_changes_nothing(train: Train) -> None:
    np.testing.assert_allclose(train(is_float16=True)["losses"], train()["losses"], rtol=1e-3)
