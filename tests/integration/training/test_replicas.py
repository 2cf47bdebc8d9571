"""One, two or four replicas, micro-batches, XLA: the same batches and the same losses."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def _train(**settings: Any) -> dict[str, Any]:
    return _cached(json.dumps({"replicas": 1, "batch": 8, **settings}, sort_keys=True))


@cache
def _cached(settings: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.training.replicas", settings],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["batches"] == second["batches"]
    np.testing.assert_allclose(first["losses"], second["losses"], rtol=1e-5)
    for mine, theirs in zip(first["last"], second["last"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_training_moves_the_loss() -> None:
    losses = _train()["losses"]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_change_nothing(replicas: int) -> None:
    _assert_same(_train(), _train(replicas=replicas))


def test_a_batch_that_does_not_divide_changes_nothing() -> None:
    # 7 examples over 4 replicas: shares of 2, 2, 2 and 1 with one of weight 0.
    _assert_same(_train(batch=7), _train(batch=7, replicas=4))


@pytest.mark.parametrize("replicas", [1, 2])
def test_micro_batches_change_nothing(replicas: int) -> None:
    _assert_same(_train(), _train(accumulate=3, replicas=replicas))


@pytest.mark.parametrize("replicas", [1, 2])
def test_several_steps_in_a_call_change_nothing(replicas: int) -> None:
    single, several = _train(), _train(at_once=4, replicas=replicas)
    # The loss is that of a call's last step: the fourth, and the sixth at the end.
    _assert_same({**single, "losses": [single["losses"][3], single["losses"][5]]}, several)


def test_xla_changes_nothing() -> None:
    _assert_same(_train(), _train(xla=True))


def test_the_loss_is_the_weighted_smoothed_cross_entropy() -> None:
    weights, smoothing = np.array([2.0, 0.5, 0.5]), 0.1
    found = _train(steps=1, class_weights=weights.tolist(), label_smoothing=smoothing)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(37, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 37)
    top_kernel, top_bias, kernel, bias = (np.array(value) for value in found["first"])
    batch = found["batches"][0]
    logits = np.tanh(features[batch] @ kernel + bias) @ top_kernel + top_bias
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(3)[labels[batch]] * (1 - smoothing) + smoothing / 3
    np.testing.assert_allclose(found["losses"][0], -(targets * weights * logs).sum(axis=1).mean(), rtol=1e-5)


def test_layer_decay_scales_the_update_of_lower_blocks() -> None:
    phase = {"optimizer": "sgd", "weight_decay": 0.0, "warmup_steps": 0, "clip_norm": None}
    plain = _train(steps=1, phase={**phase, "layer_decay": 1.0})
    decayed = _train(steps=1, phase={**phase, "layer_decay": 0.25})
    for place, factor in enumerate([1.0, 1.0, 0.25, 0.25]):
        moved = [np.array(run["last"][place]) - np.array(run["first"][place]) for run in (plain, decayed)]
        assert np.abs(moved[0]).max() > 1e-5
        np.testing.assert_allclose(moved[1], factor * moved[0], atol=1e-6)


def test_the_gradient_of_the_mean_loss_is_clipped() -> None:
    phase = {"optimizer": "sgd", "weight_decay": 0.0, "warmup_steps": 0, "layer_decay": 1.0, "learning_rate": 1.0}
    found = _train(steps=1, phase={**phase, "clip_norm": 1e-3}, replicas=2)
    moved = np.concatenate(
        [(np.array(b) - np.array(a)).ravel() for a, b in zip(found["first"], found["last"], strict=True)]
    )
    # Nesterov's first step is 1 + momentum times the gradient.
    np.testing.assert_allclose(np.linalg.norm(moved), 1.9e-3, rtol=1e-3)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_loss_that_is_not_finite_is_refused_before_anything_moves(replicas: int) -> None:
    # Weight decay would move the weights without any gradient.
    phase = {"optimizer": "adamw", "weight_decay": 0.1, "warmup_steps": 0}
    poisoned = _train(batch=37, poison=5, replicas=replicas, steps=1, phase=phase)
    assert "not finite" in poisoned["error"]
    assert poisoned["last"] == poisoned["first"]


def test_loss_scaling_changes_nothing() -> None:
    np.testing.assert_allclose(_train(is_float16=True)["losses"], _train()["losses"], rtol=1e-3)
