"""A job whose data URI and environment hold secrets leaves none of them behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from job.demo.object_store import ObjectStore
from job.storage import at, transfer
from tests.e2e.tiny import Done, train_arguments

SIGNATURE = "51gn4tur3of4n0bject"
PASSWORD = "pa55w0rdofauser"
KEY = "k3y/ofan+account=="


def _left(folder: Path) -> dict[str, bytes]:
    """Returns names and contents of everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_job_with_secrets_in_uri_and_environment_leaves_none(
    run: Callable[..., Done], squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    data = f"gs://bucket/photos?X-Goog-Date=20260101&X-Goog-Signature={SIGNATURE}"
    arguments = train_arguments(data, str(tmp_path / "left" / "run"), tmp_path / "left" / "work", "train.preset=fast")
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        store.make_bucket("bucket")
        transfer.push(squares, at(data))
        done = run(*arguments)
        assert done.code == 0, done.stderr
    # With the signature in the URI nothing else could come from there; a key gets in by way of a setting.
    wrong = run("train", "--data", f"https://user:{PASSWORD}@host/x?sig={SIGNATURE}", "--output", f"{KEY}://x")
    assert wrong.code == 78
    said = "".join([str(one.events) + one.stderr for one in (done, wrong)])
    left = _left(tmp_path / "left")
    assert len(left) > 20
    assert any("report.md" in name for name in left)
    for secret in (SIGNATURE, PASSWORD, KEY):
        assert secret not in said
        for name, content in left.items():
            assert secret not in name
            assert secret.encode() not in content, name
    assert b"gs://bucket/photos?***" in left["run/config.yaml"]
    assert b"gs://bucket/photos?***" in left["run/report.json"]
    assert "***" in wrong.error["message"]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == KEY
