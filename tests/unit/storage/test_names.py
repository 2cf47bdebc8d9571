"""Which object names may become files."""

from __future__ import annotations

import pytest

from job.errors import DatasetError
from job.storage.names import check, check_all

CLIMBING = [
    "../x",
    "a/../../x",
    "/abs",
    "a\0b",
    "..\\x",
    "a\\..\\..\\x",
    "\\abs",
    "C:\\x",
    "c:/x",
    "",
    "a//b",
    "./a",
    "a/.",
]


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_that_is_no_plain_path_is_refused_and_named(name: str):
    with pytest.raises(DatasetError) as caught:
        check(name, "gs://b/set")
    assert repr(name) in caught.value.message
    assert "gs://b/set" in caught.value.message
    assert caught.value.exit_code == 65
    assert caught.value.next_step


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "..a/b..", "a..b", "a\\b", ".hidden", "a b/ü", "x:y"])
def test_a_plain_name_is_allowed(name: str):
    check(name, "gs://b/set")
    with pytest.raises(DatasetError):  # and is not merely overlooked
        check(f"../{name}", "gs://b/set")


def test_a_name_that_is_file_and_folder_names_both():
    with pytest.raises(DatasetError, match=r"'a/b'.*'a/b/c/d'"):
        check_all(["x", "a/b", "a/b/c/d", "a/b.jpg"], "gs://b/set")
