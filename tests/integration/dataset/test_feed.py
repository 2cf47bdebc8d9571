"""The batch of step s is a pure function of (seed, s)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.dataset.feed import NUM_RANDOMS, Feed, uniforms


def _feed(num: int, batch: int, seed: int, *, mixes: bool = False) -> Feed:
    examples = np.arange(num, dtype=np.int64) * 2 + 1
    labels = np.arange(2 * num + 2, dtype=np.int32) % 3
    return Feed(
        examples, labels, lambda indices, _: indices[:, None].astype(np.float32), batch=batch, seed=seed, mixes=mixes
    )


@given(num=st.integers(1, 40), batch=st.integers(1, 17), seed=st.integers(0, 2**31 - 1))
def test_every_epoch_shows_every_example_once(num: int, batch: int, seed: int) -> None:
    feed = _feed(num, batch, seed)
    steps = -(-3 * num // batch)
    shown = np.concatenate([feed.indices(step)[0] for step in range(steps)])
    epochs = np.concatenate([feed.indices(step)[1] for step in range(steps)])
    for epoch in range(3):
        assert Counter(shown[epochs == epoch].tolist()) == Counter((np.arange(num) * 2 + 1).tolist())


@given(step=st.integers(0, 10**9), seed=st.integers(0, 2**31 - 1))
def test_a_step_is_the_same_from_any_feed_in_any_order(step: int, seed: int) -> None:
    first, second = _feed(13, 5, seed), _feed(13, 5, seed)
    second.indices(step + 1)
    a, b = first.batch(step), second.batch(step)
    assert np.array_equal(a.indices, b.indices)
    assert np.array_equal(a.randoms, b.randoms)
    assert np.array_equal(a.inputs[:, 0], a.indices)


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = [tuple(_feed(50, 50, seed).indices(step)[0]) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4


def test_batches_are_fetched_ahead_and_the_same() -> None:
    feed = _feed(7, 3, 5)
    ahead = list(feed.batches(2, 12))
    assert len(ahead) == 10
    for step, batch in zip(range(2, 12), ahead, strict=True):
        assert np.array_equal(batch.indices, feed.batch(step).indices)


def test_a_fault_of_the_background_thread_comes_through() -> None:
    def fetch(indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    feed = Feed(np.arange(4), np.zeros(4, np.int32), fetch, batch=2, seed=0)
    with pytest.raises(OSError, match="the disk is gone"):
        list(feed.batches(0, 3))


def test_partners_are_drawn_by_another_permutation() -> None:
    batch = _feed(30, 30, 0, mixes=True).batch(0)
    assert batch.partners.shape == batch.inputs.shape
    assert not np.array_equal(batch.partners, batch.inputs)
    assert sorted(batch.partners[:, 0]) == sorted(batch.inputs[:, 0])


@given(seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 10**6), index=st.integers(0, 10**8))
def test_the_numbers_of_an_example_do_not_depend_on_its_batch(seed: int, epoch: int, index: int) -> None:
    alone = uniforms(seed, np.array([epoch]), np.array([index]))
    among = uniforms(seed, np.array([3, epoch, 9]), np.array([1, index, 2]))
    assert alone.shape == (1, NUM_RANDOMS)
    assert np.array_equal(alone[0], among[1])
    assert (alone >= 0).all()
    assert (alone < 1).all()
