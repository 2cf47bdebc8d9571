"""What a split keeps whatever the data: its images in their places, copies together, every class served."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.config import SplitConfig
from job.dataset import split
from job.dataset.example import Row, Split, Verdict
from job.dataset.summary import summarise
from job.errors import ConfigError, DatasetError

FRACTIONS = SplitConfig()
Image = tuple[str, str, Split | None]
REPEATABLE = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def row(index: int, content: str, label: str, given_split: Split | None = None) -> Row:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Row(index, f"{label}/{index}", label, given_split, Verdict.OK, "", "", sha256, 8, 8, 1)


def dataset(*images: Image) -> list[Row]:
    return [row(index, *image) for index, image in enumerate(images)]


def by_content(rows: Sequence[Row]) -> dict[str, Split | None]:
    return {found.sha256: found.split for found in rows}


@st.composite
def images(draw: st.DrawFn, *, min_a_class: int = 3, max_a_class: int = 30) -> list[Image]:
    sizes = draw(st.lists(st.integers(min_a_class, max_a_class), min_size=2, max_size=4))
    salt = draw(st.integers(0, 999))
    return [(f"{salt}:{label}:{n}", f"class {label}", None) for label, size in enumerate(sizes) for n in range(size)]


SEEDS = st.integers(0, 2**31 - 1)


@REPEATABLE
@given(images(), SEEDS)
def test_every_class_is_in_every_split(found: list[Image], seed: int) -> None:
    rows = split.assign(dataset(*found), FRACTIONS, seed)
    for label in {row.label for row in rows}:
        assert {row.split for row in rows if row.label == label} == set(Split)


@REPEATABLE
@given(images(), images(), SEEDS)
def test_new_images_move_no_old_one_but_a_repaired_one(old: list[Image], more: list[Image], seed: int) -> None:
    before = by_content(split.assign(dataset(*old), FRACTIONS, seed))
    merged = list(dict.fromkeys([*more, *old]))
    after = by_content(split.assign(dataset(*merged), FRACTIONS, seed))
    shares = split.plan(dataset(*old), FRACTIONS).shares
    for sha256, was in before.items():
        pure = split.by_hash(split.place(sha256, seed), shares)
        # Where hash and split agree, only another class's or a later repair could take the image away,
        # and neither does: repairs take from a class what the class can spare, for a split it lacks.
        if was is pure and pure is not Split.TRAIN:
            assert after[sha256] is was


@REPEATABLE
@given(images(), SEEDS, st.randoms(use_true_random=False))
def test_order_and_names_do_not_matter(found: list[Image], seed: int, random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types its Random as object
    assert by_content(split.assign(dataset(*found), FRACTIONS, seed)) == by_content(
        split.assign(dataset(*shuffled), FRACTIONS, seed)
    )


@REPEATABLE
@given(images(), st.data(), SEEDS)
def test_copies_never_straddle_whatever_the_data_says(found: list[Image], data: st.DataObject, seed: int) -> None:
    say = st.sampled_from([None, Split.TRAIN, Split.VALIDATION, Split.TEST])
    copies = [(content, label, data.draw(say)) for content, label, _ in found[::3]]
    try:
        rows = split.assign(dataset(*found, *copies), FRACTIONS, seed)
    except DatasetError:
        # The drawn splits may leave a class without training images, or a split without images; that is refused.
        return
    for sha256 in {row.sha256 for row in rows}:
        assert len({row.split for row in rows if row.sha256 == sha256 and row.split}) == 1


@REPEATABLE
@given(images(min_a_class=2, max_a_class=2), SEEDS)
def test_the_smallest_classes_train_first_and_choose_second(found: list[Image], seed: int) -> None:
    try:
        rows = split.assign(dataset(*found, *[(f"x{n}", "large", None) for n in range(9)]), FRACTIONS, seed)
    except DatasetError:
        pytest.fail("the large class fills every split")
    for label in {row.label for row in rows} - {"large"}:
        assert Split.TRAIN in {row.split for row in rows if row.label == label}


def test_shares_are_met_on_average_and_differ_by_seed() -> None:
    rows = dataset(*[(str(n), f"class {n % 3}", None) for n in range(3000)])
    first, second = (split.assign(rows, FRACTIONS, seed) for seed in (0, 1))
    counts = [sum(row.split is which for row in first) for which in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    assert counts == pytest.approx([2400, 300, 300], abs=60)
    assert by_content(first) != by_content(second)


def test_the_data_s_own_splits_stand_and_validation_is_carved_out_of_train() -> None:
    given_rows = dataset(
        *[(f"a{n}", f"class {n % 2}", Split.TRAIN) for n in range(400)],
        *[(f"b{n}", f"class {n % 2}", Split.TEST) for n in range(50)],
    )
    rows = split.assign(given_rows, FRACTIONS, 0)
    assert all(row.split is Split.TEST for row in rows[400:])
    share = sum(row.split is Split.VALIDATION for row in rows) / 400
    assert share == pytest.approx(0.1 / 0.9, abs=0.04)
    assert split.plan(given_rows, FRACTIONS).note.startswith("the data brings no validation; train was split")


def test_test_is_carved_out_of_train_where_validation_is_there() -> None:
    rows = split.assign(
        dataset(
            *[(f"a{n}", f"class {n % 2}", Split.TRAIN) for n in range(100)],
            *[(f"b{n}", f"class {n % 2}", Split.VALIDATION) for n in range(20)],
        ),
        FRACTIONS,
        0,
    )
    assert {row.split for row in rows[:100]} == {Split.TRAIN, Split.TEST}
    assert {row.split for row in rows[100:]} == {Split.VALIDATION}


def test_three_given_splits_are_left_alone() -> None:
    rows = dataset(*[(f"{which}{n}", f"class {n % 2}", which) for which in Split for n in range(4)])
    assert split.assign(rows, FRACTIONS, 0) == rows
    assert "all three" in split.plan(rows, FRACTIONS).note


def test_a_copy_of_a_training_image_leaves_its_evaluation_and_says_so() -> None:
    rows = split.assign(
        dataset(
            *[(f"{which}{n}", f"class {n % 2}", which) for which in Split for n in range(4)],
            ("train0", "class 0", Split.TEST),
            ("train1", "class 1", Split.VALIDATION),
            ("validation1", "class 1", Split.TEST),
        ),
        FRACTIONS,
        0,
    )
    assert [row.split for row in rows[-3:]] == [None, None, None]
    assert [row.notes for row in rows[-3:]] == [
        "left out of test: the same image is class 0/0 in train",
        "left out of validation: the same image is class 1/1 in train",
        "left out of test: the same image is class 1/5 in validation",
    ]
    assert [sum(row.split is which for row in rows) for which in Split] == [4, 4, 4]


def test_a_near_duplicate_of_a_training_image_leaves_its_evaluation_too() -> None:
    rows = dataset(*[(f"{which}{n}", f"class {n % 2}", which) for which in Split for n in range(4)])
    group = min(rows[0].sha256, rows[8].sha256)
    rows[0], rows[8] = (dataclasses.replace(row, group=group) for row in (rows[0], rows[8]))
    found = split.assign(rows, FRACTIONS, 0)
    assert (found[0].split, found[8].split) == (Split.TRAIN, None)
    assert found[8].notes == "left out of test: nearly the same image is class 0/0 in train"
    assert summarise(found, split_note="").left_out == {"test": 1}


@pytest.mark.parametrize("which", [Split.VALIDATION, Split.TEST])
def test_an_evaluation_of_nothing_but_training_images_is_refused(which: Split) -> None:
    other = Split.TEST if which is Split.VALIDATION else Split.VALIDATION
    rows = dataset(
        *[(f"{given}{n}", f"class {n % 2}", given) for given in (Split.TRAIN, other) for n in range(4)],
        *[(f"train{n}", f"class {n % 2}", which) for n in range(3)],
    )
    with pytest.raises(DatasetError, match=f"Nothing is left of the {which} split: all its 3 images are copies"):
        split.assign(rows, FRACTIONS, 0)


@REPEATABLE
@given(images(), SEEDS, st.data())
def test_near_duplicates_never_straddle_and_move_no_other_image(
    found: list[Image], seed: int, data: st.DataObject
) -> None:
    alone = dataset(*found)
    members = data.draw(st.sets(st.sampled_from(range(len(found))), min_size=2, max_size=6))
    group = min(alone[index].sha256 for index in members)
    rows = [dataclasses.replace(row, group=group if row.index in members else "") for row in alone]
    try:
        after = split.assign(rows, FRACTIONS, seed)
    except DatasetError:  # A class that is one near-duplicate of another has no image of its own.
        return
    assert len({after[index].split for index in members}) == 1
    shares = split.plan(alone, FRACTIONS).shares
    # Only the repair of a small class takes an image from where its hash, or its group's, has it: one for each split.
    repaired = {
        (row.label, row.content)
        for row in after
        if row.split is not split.by_hash(split.place(row.content, seed), shares)
    }
    assert max(Counter(label for label, _ in repaired).values(), default=0) <= 2


@REPEATABLE
@given(images(min_a_class=20), images(min_a_class=20), SEEDS)
def test_adding_images_moves_an_old_one_only_to_or_from_a_repair(old: list[Image], new: list[Image], seed: int) -> None:
    before = by_content(split.assign(dataset(*old), FRACTIONS, seed))
    after = by_content(split.assign(dataset(*dict.fromkeys([*old, *new])), FRACTIONS, seed))
    shares = split.plan(dataset(*old), FRACTIONS).shares
    for sha256, was in before.items():
        if after[sha256] is not was:
            pure = split.by_hash(split.place(sha256, seed), shares)
            assert pure in (was, after[sha256]), "it moved between two splits that are not its own"
            assert Split.TRAIN in (was, after[sha256])


@REPEATABLE
@given(st.integers(200, 900), SEEDS, st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_shares_are_met_within_what_chance_allows(num: int, seed: int, validation: float, test: float) -> None:
    fractions = SplitConfig(train=1 - validation - test, validation=validation, test=test)
    rows = split.assign(dataset(*[(f"{n}", f"class {n % 2}", None) for n in range(num)]), fractions, seed)
    for which, share in ((Split.VALIDATION, validation), (Split.TEST, test)):
        deviation = (share * (1 - share) / num) ** 0.5
        assert abs(sum(row.split is which for row in rows) / num - share) < 5 * deviation


def test_images_left_open_join_a_copy_whose_split_is_given() -> None:
    some = [(f"{which}{n}", f"class {n % 2}", which) for which in Split for n in range(4)]
    rows = split.assign(dataset(*some, ("test0", "class 0", None), ("new", "class 1", None)), FRACTIONS, 0)
    assert rows[-2].split is Split.TEST
    assert rows[-1].split in set(Split)
    assert "what the data leaves open" in split.plan(dataset(*some, ("new", "class 1", None)), FRACTIONS).note


def test_quarantined_images_have_no_part_in_it() -> None:
    rows = dataset(*[(str(n), f"class {n % 2}", None) for n in range(40)])
    bad = dataclasses.replace(rows[7], verdict=Verdict.CORRUPT)
    assert split.assign([*rows[:7], bad, *rows[8:]], FRACTIONS, 0)[7] == bad


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (dataset(("a", "x", Split.TEST), ("b", "y", Split.TEST)), r"brings the splits \[<?.*test.*, but no train"),
        (
            dataset(*[(f"a{n}", "x", Split.TRAIN) for n in range(9)], ("b", "y", Split.TEST), ("c", "y", Split.TEST)),
            "The class 'y' has no training image",
        ),
        (dataset(("a", "x", None), ("a", "x", None), ("b", "y", None), ("b", "y", None)), "split would be empty"),
    ],
)
def test_what_cannot_be_split_is_said(rows: list[Row], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        split.assign(rows, FRACTIONS, 0)
    assert error.value.next_step


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_needed_split_without_a_share_is_a_config_error(name: str) -> None:
    rows = dataset(*[(str(n), f"class {n % 2}", None) for n in range(40)])
    with pytest.raises(ConfigError, match=rf"data\.split\.{name} is 0"):
        split.assign(rows, SplitConfig(**{"train": 0.9, "validation": 0.9, name: 0.0}), 0)


def test_a_test_share_of_0_leaves_test_empty() -> None:
    rows = dataset(*[(str(n), f"class {n % 2}", None) for n in range(40)])
    found = split.assign(rows, SplitConfig(train=0.9, test=0.0), 0)
    assert {row.split for row in found} == {Split.TRAIN, Split.VALIDATION}
