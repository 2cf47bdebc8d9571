"""Keras's optimizers with a rate a layer, decay on kernels alone, averaged weights and loss scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from job.training import optimizer
from job.training.loop import averaged
from tests.integration.training import tiny


def test_the_rate_rises_from_zero_and_falls_to_zero() -> None:
    schedule = optimizer.schedule(tiny.phase(num_steps=100, warmup_steps=10, learning_rate=0.5))
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[10] == pytest.approx(0.5)
    assert rates[5] == pytest.approx(0.25)
    assert rates[55] == pytest.approx(0.25, abs=0.01)
    assert rates[100] == pytest.approx(0.0, abs=1e-6)
    without = optimizer.schedule(tiny.phase(num_steps=100, learning_rate=0.5))
    assert float(without(0)) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_shrinks_kernels_and_leaves_biases_alone(name: str) -> None:
    model = tiny.net()
    for layer in (model.layers[1], model.layers[-1]):
        layer.bias.assign(np.ones(layer.bias.shape))
    phase = tiny.phase(optimizer=name, weight_decay=0.1, learning_rate=0.5, layer_decay=0.1)
    built = optimizer.build(phase, tiny.groups(model), is_float16=False)
    variables = [variable for group in tiny.groups(model) for variable in group]
    before = [variable.numpy() for variable in variables]
    built.apply([np.zeros(variable.shape, np.float32) for variable in variables], variables)
    for variable, value in zip(variables, before, strict=True):
        factor = 1 - 0.5 * 0.1 if len(variable.shape) > 1 else 1.0
        np.testing.assert_allclose(variable.numpy(), factor * value, rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_layer_decay_scales_what_a_block_moves(name: str) -> None:
    moved = []
    for decay in (1.0, 0.25):
        model = tiny.net()
        phase = tiny.phase(optimizer=name, weight_decay=0.0, layer_decay=decay)
        step, _ = tiny.train_step(model, phase)
        before = tiny.values(model)
        step(tiny.feed(*tiny.data()).batch(0))
        moved.append([after - value for value, after in zip(before, tiny.values(model), strict=True)])
    for position, factor in enumerate([0.25, 0.25, 1.0, 1.0]):
        assert np.abs(moved[0][position]).max() > 1e-5
        np.testing.assert_allclose(moved[1][position], factor * moved[0][position], atol=1e-6)


@pytest.mark.parametrize("is_float16", [False, True])
def test_averaged_weights_are_there_for_the_block_and_the_raw_ones_after_it(is_float16: bool) -> None:
    model = tiny.net()
    step, built = tiny.train_step(model, tiny.phase(ema=0.75), is_float16=is_float16)
    variables = [variable for group in tiny.groups(model) for variable in group]
    initial = [variable.numpy() for variable in variables]
    with averaged(built, variables):
        for variable, value in zip(variables, initial, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)
    one = tiny.feed(*tiny.data())
    raw: list[list[Any]] = []
    for number in range(3):
        step(one.batch(number))
        raw.append([variable.numpy() for variable in variables])
    expected = raw[0]
    for weights in raw[1:]:
        expected = [0.75 * average + 0.25 * weight for average, weight in zip(expected, weights, strict=True)]
    with averaged(built, variables):
        for variable, average, weight in zip(variables, expected, raw[-1], strict=True):
            np.testing.assert_allclose(variable.numpy(), average, atol=1e-6)
            assert np.abs(variable.numpy() - weight).max() > 1e-4
    for variable, weight in zip(variables, raw[-1], strict=True):
        np.testing.assert_array_equal(variable.numpy(), weight)


def test_without_averaging_the_block_changes_nothing() -> None:
    model = tiny.net()
    step, built = tiny.train_step(model, tiny.phase())
    step(tiny.feed(*tiny.data()).batch(0))
    before = tiny.values(model)
    with averaged(built, list(model.trainable_variables)):
        for value, now in zip(before, tiny.values(model), strict=True):
            np.testing.assert_array_equal(value, now)


def test_a_step_that_overflows_float16_is_skipped_and_the_next_ones_train() -> None:
    model = tiny.net(policy="mixed_float16")
    features, labels = tiny.data(scale=300.0)
    step, built = tiny.train_step(model, tiny.phase(clip_norm=None), is_float16=True)
    one = tiny.feed(features, labels)
    scales, norms, moved = [], [], []
    for number in range(16):
        before = tiny.values(model)
        results = step(one.batch(number))
        assert np.isfinite(float(results["loss"]))
        norms.append(np.isfinite(float(results["gradient_norm"])))
        moved.append(any((a != b).any() for a, b in zip(before, tiny.values(model), strict=True)))
        scales.append(float(built.dynamic_scale.numpy()))
    assert not norms[0]
    assert sum(norms) >= 8
    assert moved == norms
    assert scales[0] == 0.5 * float(built.initial_scale)
    assert all(np.isfinite(value).all() for value in tiny.values(model))
