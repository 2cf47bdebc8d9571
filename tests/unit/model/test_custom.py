"""The row of a user's own backbone, from the description in its file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from job.errors import ConfigError, InputMissingError
from job.model import custom
from job.model.backbones import Norm, Preprocessing


def _keras_file(path: Path, layers: list[dict[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": layers}}))
    return path


def test_size_and_norm_come_from_the_file(tmp_path: Path) -> None:
    inner = {"class_name": "Sequential", "config": {"layers": [{"class_name": "BatchNormalization", "config": {}}]}}
    image = {"class_name": "InputLayer", "config": {"batch_shape": [None, 96, 96, 3]}}
    row = custom.describe(_keras_file(tmp_path / "own.keras", [image, inner]))
    assert (row.native_px, row.min_px, row.norm, row.preprocessing) == (96, 96, Norm.BATCH, Preprocessing.INSIDE)
    assert (row.name, row.family, row.path) == ("own.keras", "custom", tmp_path / "own.keras")


def test_a_free_size_falls_back_to_224(tmp_path: Path) -> None:
    image = {"class_name": "InputLayer", "config": {"batch_shape": [None, None, None, 3]}}
    row = custom.describe(_keras_file(tmp_path / "own.keras", [image]))
    assert (row.native_px, row.min_px, row.norm) == (224, 1, Norm.NONE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"gone\.keras"):
        custom.describe(tmp_path / "gone.keras")


@pytest.mark.parametrize("content", [b"<html>404</html>", b""])
def test_what_is_no_keras_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.keras"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not a \.keras file"):
        custom.describe(path)


def test_a_subclassed_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Mine", "config": {"width": 3}}))
    with pytest.raises(ConfigError, match="functional or sequential"):
        custom.describe(path)
