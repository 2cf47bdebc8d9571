"""TensorFlow's import: what C++ prints is held back, and shown when it fails; what is not needed is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from job.quiet import _left_out, _stderr_held_back


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


@pytest.mark.parametrize(("given", "holds"), [(None, "true"), ("false", "false")])
def test_gpus_are_shared_and_have_threads_of_their_own_unless_the_environment_says_otherwise(
    given: str | None, holds: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    if given is not None:
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = given
    program = (
        "import os; from job.quiet import import_tensorflow; import_tensorflow();"
        "print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'], os.environ['TF_GPU_THREAD_MODE'])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [holds, "gpu_private"]


def test_boto3_is_not_loaded_for_tensorboard_and_can_be_afterwards() -> None:
    program = (
        "import sys; from job.quiet import import_tensorflow; import_tensorflow(); import tensorflow as tf;"
        "tf.summary.text; print('boto3' in sys.modules);"
        "import boto3; print(boto3.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "boto3"]


def test_what_is_loaded_already_is_not_left_out() -> None:
    with _left_out("pytest"):
        assert sys.modules["pytest"] is pytest
    assert sys.modules["pytest"] is pytest
