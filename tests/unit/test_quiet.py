"""What C++ prints while TensorFlow is imported is held back, and shown when the import fails."""

from __future__ import annotations

import os

import pytest

from job.quiet import _stderr_held_back


def test_noise_below_python_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with _stderr_held_back():
        os.write(2, b"noise\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_noise_is_shown_when_it_explains_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    @_stderr_held_back()
    def fail() -> None:
        os.write(2, b"libcudart.so is missing\n")
        raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "libcudart.so is missing\n"
