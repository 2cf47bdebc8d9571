"""Cutting classifiers of all kinds of graphs in two."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest

from job.model import backbones, classifier, cut

KINDS = [
    "mobilenet_v2_035",
    "mobilenet_v3_small",
    "resnet50",
    "densenet121",
    "efficientnet_v2_b0",
    "convnext_tiny",
    "inception_v3",
    "xception",
]


@pytest.fixture(scope="module")
def plain() -> Any:
    row = backbones.get("mobilenet_025")
    return classifier.build(row, weights="none", image_px=32, num_classes=2, dropout=0.0, seed=0)


@pytest.mark.parametrize("name", KINDS)
def test_top_of_trunk_is_the_model(name: str, live: Callable[..., Any], pixels: np.ndarray) -> None:
    row, model = backbones.get(name), live(name)
    size = model.inputs[0].shape[1]
    images = np.resize(pixels, (4, size, size, 3))
    expected = model(images, training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1, "the network is dead: the comparison would prove nothing"
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)

    ends = cut.block_boundaries(model, row)
    assert len(ends) >= 3
    indices = [end.index for end in ends]
    assert indices == sorted(set(indices)) == list(ends[0].block_ends)
    assert all(0 < low.share_below < high.share_below <= 1 for low, high in pairwise(ends))
    assert all(0 < low.flops_below < high.flops_below <= 1 for low, high in pairwise(ends))

    for place in (ends[0], ends[len(ends) // 2], ends[-1], cut.features_cut(model)):
        trunk, top = cut.split(model, place)
        across = trunk(images, training=False).numpy()
        assert across.shape[1:] == place.shape
        np.testing.assert_allclose(top(across, training=False), expected, atol=1e-6)
        noise = np.random.default_rng(3).normal(scale=across.std(), size=across.shape)
        moved = np.abs(top(across + noise, training=False).numpy() - expected).max()
        assert moved > 1e-2, "the control does not move"


def test_parts_share_the_variables_of_the_model(live: Callable[..., Any]) -> None:
    row, model = backbones.get("mobilenet_v2_035"), live("mobilenet_v2_035")
    trunk, top = cut.split(model, cut.cut_for_share(model, row, 0.5))
    assert {id(v) for v in trunk.weights} | {id(v) for v in top.weights} == {id(v) for v in model.weights}
    assert not {id(v) for v in trunk.weights} & {id(v) for v in top.weights}


def test_the_input_is_a_cut_too(live: Callable[..., Any], pixels: np.ndarray) -> None:
    row, model = backbones.get("mobilenet_025"), live("mobilenet_025")
    place = cut.cut_for_share(model, row, 1.0)
    trunk, top = cut.split(model, place)
    assert place.is_input
    assert place.blocks_below == 0
    np.testing.assert_array_equal(trunk(pixels), pixels)
    np.testing.assert_array_equal(top(pixels, training=False), model(pixels, training=False))


@pytest.mark.parametrize(
    ("share", "num_trained"), [(0.01, 1), (0.25, 3), (1 / 3, 4), (0.5, 7), (0.9, 12), (0.97, 13), (1.0, 13)]
)
def test_a_share_picks_a_block_boundary(share: float, num_trained: int, plain: Any) -> None:
    row, model = backbones.get("mobilenet_025"), plain
    place = cut.cut_for_share(model, row, share)
    assert len(place.block_ends) == 13
    assert place.blocks_below == pytest.approx((13 - num_trained) / 13)


def test_dropout_above_the_cut_works_in_training(live: Callable[..., Any], pixels: np.ndarray) -> None:
    model = live("mobilenet_025")
    trunk, top = cut.split(model, cut.features_cut(model))
    features = trunk(pixels, training=False)
    steady = top(features, training=False).numpy()
    first, second = top(features, training=True).numpy(), top(features, training=True).numpy()
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - steady).max() > 1e-3
    np.testing.assert_array_equal(top(features, training=False).numpy(), steady)


def test_the_same_build_has_the_same_cuts() -> None:
    """A cache written by one process is read by another that has built other networks before."""
    row = backbones.get("xception")
    settings: dict[str, Any] = {"weights": "none", "image_px": 71, "num_classes": 2, "dropout": 0.0, "seed": 0}
    first, second = (cut.block_boundaries(classifier.build(row, **settings), row) for _ in range(2))
    assert [(c.index, c.shape, c.share_below) for c in first] == [(c.index, c.shape, c.share_below) for c in second]
    assert len(first) == 14


def test_a_skip_around_everything_leaves_only_the_input() -> None:
    image = keras.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(3, 1)(image)
    model = keras.Model(image, keras.layers.Add()([keras.layers.ReLU()(hidden), image]))
    assert [place.index for place in cut.boundaries(model)] == [0]
