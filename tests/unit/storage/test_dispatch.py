"""Which URI leads where, and what a wrong one says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import ConfigError
from job.storage import at, is_remote, join
from job.storage.dispatch import split
from job.storage.local import LocalStore


@pytest.mark.parametrize("uri", ["{}", "file://{}", "file://localhost{}", "file:{}"])
def test_a_path_and_a_file_uri_are_the_same_folder(tmp_path: Path, uri: str):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    text = uri.format(folder if uri == "{}" else str(folder).replace(" ", "%20"))
    store = at(text)
    assert isinstance(store, LocalStore)
    assert not is_remote(text)
    assert store.uri == text
    assert [info.name for info in store.list()] == ["a"]


def test_a_relative_path_is_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    at("runs/1").write("a", b"x")
    assert (tmp_path / "runs" / "1" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("uri", ["gs://b", "s3://b/x", "az://c/x/", "GS://b/x"])
def test_bucket_uris_are_remote(uri: str):
    assert is_remote(uri)


def test_an_unknown_scheme_names_itself_the_allowed_and_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'gss://b/x'.*'gss'.*az://, file://, gs://, s3://.*Did you mean 'gs'"
    ) as caught:
        at("gss://b/x")
    assert caught.value.exit_code == 78
    assert caught.value.next_step
    with pytest.raises(ConfigError, match="unknown scheme 'http'"):
        is_remote("http://host/x")


def test_a_uri_folded_by_pathlib_says_what_to_write():
    with pytest.raises(ConfigError, match="one slash") as caught:
        at(str(Path("gs://bucket/photos")))
    assert "gs://bucket/photos" in caught.value.next_step


@pytest.mark.parametrize("uri", ["gs://", "s3:///x", "az://"])
def test_a_uri_without_a_bucket_is_refused(uri: str):
    with pytest.raises(ConfigError, match="names no bucket"):
        at(uri)


def test_a_file_uri_with_two_slashes_says_what_to_write():
    with pytest.raises(ConfigError, match="three slashes") as caught:
        at("file://data/photos")
    assert "file:///data/photos" in caught.value.next_step


def test_a_windows_like_or_odd_plain_path_is_a_path():
    assert not is_remote("a:b/c")
    assert not is_remote("photos#1?x")


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("gs://b/run/", "checkpoints", "12"), "gs://b/run/checkpoints/12"),
        (("gs://b", "/x/"), "gs://b/x"),
        (("/", "x"), "/x"),
        (("runs/1", "", "a/b"), "runs/1/a/b"),
        (("file:///data", "x"), "file:///data/x"),
    ],
)
def test_join_puts_one_slash_between(parts: tuple[str, ...], joined: str):
    assert join(*parts) == joined


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("gs://b/a/data.csv", "gs://b/a", "data.csv"),
        ("gs://b/data.zip", "gs://b", "data.zip"),
        ("data.csv", ".", "data.csv"),
        ("/data.csv", "/", "data.csv"),
    ],
)
def test_split_gives_the_folder_and_the_name(uri: str, folder: str, name: str):
    assert split(uri) == (folder, name)


def test_split_of_a_bucket_is_refused():
    with pytest.raises(ConfigError, match="whole bucket"):
        split("gs://bucket/")


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("s3://b/x", "boto3", "finetune-job[s3]"), ("az://c/x", "azure", "finetune-job[az]")],
)
def test_a_missing_extra_says_what_to_install(uri: str, package: str, extra: str):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom job.storage import at\nat({uri!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError" in done.stderr
    assert f"pip install '{extra}'" in done.stderr


def test_storage_imports_no_client_before_it_is_needed(tmp_path: Path):
    code = (
        "import sys; from job.storage import at; import job.storage.transfer, job.storage.mirror\n"
        f"at({str(tmp_path)!r}).write('a', b'x')\n"
        "print(sorted({'google.cloud', 'boto3', 'azure', 'requests', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
