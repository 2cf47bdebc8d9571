"""What the place where the job runs tells it, where it says little, and what the job tells it."""

from __future__ import annotations

from pathlib import Path

from job.platforms import recognise, say_why


def test_a_laptop_says_nothing(tmp_path: Path) -> None:
    found = recognise({}, sagemaker_root=tmp_path)
    assert (found.name, found.data_uri, found.output_uri, found.grace_s) == ("laptop", None, None, 25.0)


def test_kubernetes_is_known_by_its_service(tmp_path: Path) -> None:
    found = recognise({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, sagemaker_root=tmp_path)
    assert (found.name, found.grace_s, found.tf_config) == ("kubernetes", 25.0, None)


def test_the_reason_goes_where_a_platform_shows_it(tmp_path: Path) -> None:
    log, failure = tmp_path / "dev" / "termination-log", tmp_path / "opt" / "ml" / "output" / "failure"
    say_why("no such place", root=tmp_path)
    assert not list(tmp_path.rglob("*"))
    log.parent.mkdir()
    log.touch()
    failure.parent.mkdir(parents=True)
    say_why("x" * 5000, root=tmp_path)
    say_why("a bucket is not there", root=tmp_path)
    assert [path.read_text() for path in (log, failure)] == ["a bucket is not there"] * 2


def test_a_place_that_cannot_be_written_to_changes_nothing(tmp_path: Path) -> None:
    failure = tmp_path / "opt" / "ml" / "output" / "failure"
    failure.mkdir(parents=True)
    say_why("a bucket is not there", root=tmp_path)
    assert failure.is_dir()
