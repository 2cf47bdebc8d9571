"""The gpu variant, built and run where its lock or the Dockerfile is not what it was last built from.

`gpu.sha256` beside this file says what that was. The build takes ten minutes and 13 GB, so it is not done for nothing;
when it has passed, write the file anew in the project's folder:

    sha256sum Dockerfile requirements-build.lock requirements-gpu.lock >tests/image/gpu.sha256
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.image.conftest import build
from tests.image.containers import HARDENED, REPOSITORY, Podman

RECORD = Path(__file__).with_name("gpu.sha256")
PARTS = ("Dockerfile", "requirements-build.lock", "requirements-gpu.lock")

PROGRAM = """
import ctypes, glob, os, sysconfig
import tensorflow as tf
assert tf.sysconfig.get_build_info()["is_cuda_build"]
folder = os.path.join(sysconfig.get_path("purelib"), "nvidia")
# What a machine without a driver can load: libcuda itself comes from the host.
for name in ("cudart", "cublas", "cufft", "cusolver", "cudnn", "nccl"):
    (path,) = glob.glob(f"{folder}/*/lib/lib{name}.so.*")
    ctypes.CDLL(path)
print("loaded", tf.reduce_sum(tf.ones(3)).numpy())
"""


def changed() -> str:
    """Returns the lines of the record as it should be, or "" where it is so."""
    now = "".join(f"{hashlib.sha256((REPOSITORY / name).read_bytes()).hexdigest()}  {name}\n" for name in PARTS)
    return "" if RECORD.read_text() == now else now


def test_the_gpu_variant_can_be_built_and_finds_its_libraries(podman: Podman) -> None:
    if not changed():
        pytest.skip("the gpu variant was built and run from these files before: tests/image/gpu.sha256")
    said = build(podman, "--engine", "podman", "--tag", "finetune-test:gpu", variant="gpu")
    assert "Built finetune-test:gpu with podman." in said
    done = podman.run("localhost/finetune-test:gpu", "-c", PROGRAM, flags=(*HARDENED, "--network=none"), python=True)
    assert done.code == 0, done.stderr
    assert done.stdout.strip().endswith("loaded 3.0")
