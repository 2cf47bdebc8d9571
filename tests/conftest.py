"""The environment every test runs in, set before anything can import TensorFlow, and the real test data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests give the same result on a machine with a GPU; a GPU's own tests set this themselves.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# google-cloud-storage would ask every bucket for metadata that only traces use.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

# The same examples every time, and no test of time: the machine may be busy.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def assets() -> Path:
    """Returns the folder with real photographs (`data/`) and real ImageNet weights (`weights/`)."""
    found = Path(os.environ.get("FINETUNE_TEST_ASSETS", REPOSITORY.parent / "shared")).resolve()
    missing = [str(found / name) for name in ("data", "weights") if not (found / name).is_dir()]
    if missing:
        reason = f"no test assets: {', '.join(missing)} not there; FINETUNE_TEST_ASSETS names their folder"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
