"""What C++ prints while TensorFlow is imported is held back, and shown when the import fails."""

from __future__ import annotations

import os
import subprocess
import sys

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
