"""Every error has its exit code, and says what to do."""

from __future__ import annotations

import pytest

from job import errors
from job.errors import JobError, nearest

CODES = {
    "JobError": 1,
    "UsageError": 2,
    "DatasetError": 65,
    "InputMissingError": 66,
    "TemporaryError": 75,
    "LeaseHeldError": 75,
    "StoreAwayError": 75,
    "AccessError": 77,
    "ConfigError": 78,
    "DivergedError": 80,
    "ProofError": 81,
    "RequirementError": 82,
    "StoppedError": 143,
}


def test_exit_codes_are_those_of_the_design_and_of_the_tree_at_the_top_of_the_file() -> None:
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, JobError)}
    assert {name: kind.exit_code for name, kind in kinds.items()} == CODES
    drawn = [line.split() for line in str(errors.__doc__).splitlines()]
    assert all(any({name, str(code)} <= set(words) for words in drawn) for name, code in CODES.items())


def test_the_next_step_stands_below_the_message() -> None:
    assert str(JobError("It broke.", next_step="Mend it.")) == "It broke.\n  Next: Mend it."
    assert str(JobError("It broke.")) == "It broke."


@pytest.mark.parametrize(
    ("word", "says"),
    [("resnet51", " Did you mean 'resnet50'?"), ("zzz", ""), ("Resnet50", " Did you mean 'resnet50'?")],
)
def test_the_nearest_word_is_offered_where_one_is_near(word: str, says: str) -> None:
    assert nearest(word, ["vgg16", "resnet50"]) == says
