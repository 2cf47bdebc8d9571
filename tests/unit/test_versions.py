"""A run says what it was made with."""

from __future__ import annotations

import pytest

from job import __version__
from job.versions import versions


def test_what_decides_the_numbers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_IMAGE", "registry/finetune@sha256:ab")
    found = versions()
    assert found["finetune-job"] == __version__
    assert {"python", "tensorflow", "keras", "numpy", "pillow"} <= set(found)
    assert found["image"] == "registry/finetune@sha256:ab"


def test_outside_a_container_no_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINETUNE_IMAGE", raising=False)
    assert "image" not in versions()
