"""Weights in a bucket: fetched once a run, and again only when they are other ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from job import config as configs
from job.console import JsonConsole
from job.demo.object_store import ObjectStore
from job.errors import ConfigError, InputMissingError
from job.interruption import Stop
from job.model import weights
from job.platforms import Platform
from job.stages import backbone
from job.workspace import Workspace

URI = "gs://models/a/w.weights.h5"


class Bucket(ObjectStore):
    """An object store that counts downloads."""

    def __init__(self) -> None:
        super().__init__(fault=self._count)
        self.num_downloads = 0

    def _count(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        self.num_downloads += "alt=media" in target


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as store:
        store.put("models", "a/w.weights.h5", b"numbers")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


def _run(tmp_path: Path, *settings: str) -> Workspace:
    given = (f"data.uri={tmp_path}", f"output={tmp_path}/run", f"work_dir={tmp_path}/work", f"model.weights={URI}")
    config = configs.load(None, [*given, *settings])
    return Workspace.open(config, Platform("laptop"), JsonConsole(io.StringIO()), Stop())


def test_one_run_fetches_once_and_the_next_one_not_at_all(bucket: Bucket, tmp_path: Path) -> None:
    first = _run(tmp_path)
    paths = {backbone.pretrained(first), backbone.pretrained(first), backbone.pretrained(_run(tmp_path))}
    (path,) = paths
    assert isinstance(path, Path)
    assert path.read_bytes() == b"numbers"
    assert bucket.num_downloads == 1


def test_an_object_replaced_between_two_runs_is_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    first = _run(tmp_path)
    backbone.pretrained(first)
    bucket.put("models", "a/w.weights.h5", b"changed")
    path = backbone.pretrained(first)
    assert isinstance(path, Path)
    assert path.read_bytes() == b"numbers", "what was checked at the start is what is loaded"
    path = backbone.pretrained(_run(tmp_path))
    assert isinstance(path, Path)
    assert path.read_bytes() == b"changed"


def test_a_run_goes_on_with_the_bytes_it_began_with_or_not_at_all(bucket: Bucket, tmp_path: Path) -> None:
    first = _run(tmp_path)
    first.begin({})
    backbone.pretrained(first)
    backbone.remember(first)
    was, other = (hashlib.sha256(data).hexdigest() for data in (b"numbers", b"changed"))
    bucket.put("models", "a/w.weights.h5", b"changed")
    expected = rf"{URI} has the SHA-256 {other}, but the run at {tmp_path}/run began with {was}"
    for work in ("work", "elsewhere"):
        with pytest.raises(ConfigError, match=expected) as caught:
            backbone.pretrained(_run(tmp_path, f"work_dir={tmp_path}/{work}"))
        assert "another --output" in caught.value.next_step
    bucket.put("models", "a/w.weights.h5", b"numbers")  # a new version of the object, the same bytes
    again = _run(tmp_path)
    backbone.pretrained(again)
    backbone.remember(again)


def test_a_local_file_exchanged_between_check_and_load_is_noticed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.weights.h5"
    mine.write_bytes(b"numbers")
    first, second = (_run(tmp_path, f"model.weights={mine}") for _ in range(2))
    first.begin({})
    backbone.pretrained(first)
    backbone.remember(first)
    backbone.pretrained(second)
    mine.write_bytes(b"changed")
    with pytest.raises(ConfigError, match="began with"):
        backbone.remember(second)


def test_weights_that_were_never_loaded_may_be_replaced(bucket: Bucket, tmp_path: Path) -> None:
    first = _run(tmp_path)
    first.begin({})
    backbone.pretrained(first)
    bucket.put("models", "a/w.weights.h5", b"changed")
    second = _run(tmp_path)
    backbone.pretrained(second)
    backbone.remember(second)
    (tmp_path / "run" / "config.yaml").unlink()  # the output is given to a new run
    bucket.put("models", "a/w.weights.h5", b"others!")
    third = _run(tmp_path)
    third.begin({})
    assert backbone.pretrained(third) is not None


def test_a_touched_copy_is_not_believed(bucket: Bucket, tmp_path: Path) -> None:
    path = weights.fetch(URI, None, tmp_path)
    path.write_bytes(b"NUMBERS")
    assert weights.fetch(URI, None, tmp_path).read_bytes() == b"numbers"


def test_two_files_of_one_name_stay_apart(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("models", "b/w.weights.h5", b"others!")
    first, second = (weights.fetch(f"gs://models/{folder}/w.weights.h5", None, tmp_path) for folder in "ab")
    assert (first.read_bytes(), second.read_bytes()) == (b"numbers", b"others!")


def test_a_pinned_checksum_holds_for_what_was_fetched(bucket: Bucket, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"numbers").hexdigest()
    assert weights.fetch(URI, sha256, tmp_path).read_bytes() == b"numbers"
    bucket.put("models", "a/w.weights.h5", b"changed")
    with pytest.raises(ConfigError, match=sha256):
        weights.fetch(URI, sha256, tmp_path)


def test_weights_that_are_not_there_are_named(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="gs://models/a/none.h5"):
        weights.fetch("gs://models/a/none.h5", None, tmp_path / "to")
    assert not (tmp_path / "to").exists()
