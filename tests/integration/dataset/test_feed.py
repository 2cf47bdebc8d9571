"""Step number in, batch out: pure, exact, whole epochs, fetched ahead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.dataset.feed import NUM_RANDOMS, Batch, Feed, uniforms

sizes = st.integers(1, 40)
batches = st.integers(1, 17)
ORDER_OF_SEED_3 = [5, 15, 3, 7, 13, 9, 1, 11]
seeds = st.integers(0, 2**31 - 1)


def fetch(indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    return np.stack([indices, epochs], axis=1).astype(np.float32)


def feed(num: int = 10, *, batch: int = 4, seed: int = 0, mixes: bool = False) -> Feed:
    """Returns a feed over the odd rows of a dataset of 2 * num."""
    labels = np.arange(2 * num, dtype=np.int32) % 3
    return Feed(np.arange(1, 2 * num, 2), labels, fetch, batch=batch, seed=seed, mixes=mixes)


def test_a_machine_prepares_its_own_rows_of_a_batch_alone() -> None:
    labels = np.arange(20, dtype=np.int32) % 3
    whole = feed(batch=6).batch(3)
    for fed in (slice(0, 2), slice(2, 6)):
        part = Feed(np.arange(1, 20, 2), labels, fetch, batch=6, seed=0, fed=fed).batch(3)
        np.testing.assert_array_equal(part.indices, whole.indices)
        for mine, everyones in ((part.inputs, whole.inputs), (part.randoms, whole.randoms)):
            np.testing.assert_array_equal(mine[fed], everyones[fed])
            assert not np.delete(mine, np.arange(6)[fed], axis=0).any()
    assert whole.randoms.all()


def fetched(one: Feed, first: int, last: int, *, at_once: int = 1, ahead: int = 3) -> Iterator[Batch]:
    """Yields the batches of the steps [first, last), so many prepared at once."""
    spans = (range(start, min(start + at_once, last)) for start in range(first, last, at_once))
    for batches in one.batches(spans, list, ahead=ahead):
        yield from batches


def assert_same(one: Batch, other: Batch) -> None:
    for name in Batch.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=25)
@given(num=sizes, batch=batches, seed=seeds, steps=st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_a_batch_is_a_pure_function_of_seed_and_step(num: int, batch: int, seed: int, steps: list[int]) -> None:
    used = feed(num, batch=batch, seed=seed, mixes=True)
    found = {step: used.batch(step) for step in steps}
    for step in reversed(steps):
        assert_same(found[step], feed(num, batch=batch, seed=seed, mixes=True).batch(step))


@settings(max_examples=25)
@given(num=sizes, batch=batches, seed=seeds)
def test_every_epoch_shows_every_example_once_and_batches_straddle_epochs(num: int, batch: int, seed: int) -> None:
    one = feed(num, batch=batch, seed=seed)
    num_steps = -(-3 * num // batch)
    parts = [one.indices(step) for step in range(num_steps)]
    assert all(len(indices) == batch for indices, _ in parts)
    indices, epochs = (np.concatenate(column) for column in zip(*parts, strict=True))
    np.testing.assert_array_equal(epochs, np.arange(len(epochs)) // num)
    for epoch in range(3):
        assert Counter(indices[epochs == epoch].tolist()) == Counter(range(1, 2 * num, 2))


@settings(max_examples=15)
@given(num=sizes, seed=seeds, small=st.integers(1, 5), factor=st.integers(2, 4))
def test_the_stream_of_examples_does_not_depend_on_the_batch(num: int, seed: int, small: int, factor: int) -> None:
    large, little = feed(num, batch=small * factor, seed=seed), feed(num, batch=small, seed=seed)
    parts = np.concatenate([little.indices(step)[0] for step in range(factor)])
    np.testing.assert_array_equal(large.indices(0)[0], parts)


@given(seed=seeds)
def test_a_step_far_away_is_as_exact_as_the_first(seed: int) -> None:
    step = 10**9
    one = feed(13, batch=5, seed=seed)
    indices, epochs = one.indices(step)
    assert epochs[0] == step * 5 // 13
    np.testing.assert_array_equal(one.batch(step).indices, indices)
    assert_same(one.batch(step), feed(13, batch=5, seed=seed).batch(step))


def test_epochs_and_seeds_are_in_different_orders() -> None:
    one = feed(40, batch=40)
    orders = [one.indices(0)[0], one.indices(1)[0], feed(40, batch=40, seed=1).indices(0)[0]]
    assert len({tuple(order) for order in orders}) == 3


def test_order_is_fixed_for_good() -> None:
    """A change of the permutation would break the resume of runs under way: this is its fingerprint."""
    np.testing.assert_array_equal(feed(8, batch=8, seed=3).indices(0)[0], ORDER_OF_SEED_3)


def test_labels_inputs_and_partners_belong_to_their_rows() -> None:
    batch = feed(10, batch=7, mixes=True).batch(2)
    np.testing.assert_array_equal(batch.labels, batch.indices % 3)
    np.testing.assert_array_equal(batch.inputs[:, 0], batch.indices)
    np.testing.assert_array_equal(batch.partner_labels, batch.partners[:, 0].astype(int) % 3)
    np.testing.assert_array_equal(batch.inputs[:, 1], batch.partners[:, 1])
    assert (batch.partners[:, 0] != batch.inputs[:, 0]).any()


def test_partners_are_drawn_by_another_permutation() -> None:
    batch = feed(30, batch=30, mixes=True).batch(0)
    assert sorted(batch.partners[:, 0]) == sorted(batch.inputs[:, 0])
    assert (batch.partners[:, 0] != batch.inputs[:, 0]).mean() > 0.5


def test_nothing_is_fetched_for_partners_when_nothing_is_mixed() -> None:
    batch = feed(10, batch=7).batch(0)
    assert batch.partners.shape == (7, 0)
    np.testing.assert_array_equal(batch.partner_labels, batch.labels)


@pytest.mark.parametrize("at_once", [1, 5])
def test_batches_fetched_ahead_are_the_same_in_the_same_order(at_once: int) -> None:
    one = feed(10, batch=4)
    ahead = list(fetched(one, 3, 20, at_once=at_once, ahead=3))
    assert len(ahead) == 17
    for step, batch in enumerate(ahead, start=3):
        assert_same(batch, one.batch(step))
    assert list(fetched(one, 5, 5)) == []


def test_an_error_of_the_background_thread_reaches_the_loop() -> None:
    def failing(indices: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        if epochs.max() >= 1:
            raise OSError("the disk is gone")
        return fetch(indices, epochs)

    one = Feed(np.arange(8), np.zeros(8, np.int32), failing, batch=4, seed=0)
    received = []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in fetched(one, 0, 10):
            received.append(batch)
    assert len(received) == 2


def test_leaving_early_ends_the_background_thread() -> None:
    def background() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("feed")]

    batches_of_it = feed().batches((range(step, step + 1) for step in range(1000)), list)
    next(batches_of_it)
    assert background()
    batches_of_it.close()
    assert background() == []


@settings(max_examples=25)
@given(seed=seeds, epoch=st.integers(0, 10_000), index=st.integers(0, 2**40))
def test_random_numbers_belong_to_an_example_and_not_to_its_batch(seed: int, epoch: int, index: int) -> None:
    alone = uniforms(seed, np.array([epoch]), np.array([index]))
    among = uniforms(seed, np.array([0, epoch, epoch]), np.array([index + 1, index, index + 1]))
    assert alone.shape == (1, NUM_RANDOMS)
    assert alone.dtype == np.float32
    np.testing.assert_array_equal(alone[0], among[1])
    assert not np.array_equal(among[1], among[2])
    assert ((alone >= 0) & (alone < 1)).all()
    # As said: those of a generator that starts at this counter.
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, epoch, index]))
    np.testing.assert_array_equal(alone[0], generator.random(NUM_RANDOMS, dtype=np.float32))


def test_random_numbers_are_uniform() -> None:
    values = uniforms(7, np.arange(400) // 100, np.arange(400) % 100)
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert np.abs(counts - values.size / 10).max() < 5 * np.sqrt(values.size / 10)
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.2
