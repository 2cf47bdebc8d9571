"""The environment every test runs in, set before anything can import TensorFlow, and the real test data.

And how `scripts/test` shares the tests among processes: a group of tests stays in one of them, in its order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests give the same result on a machine with a GPU; a GPU's own tests set this themselves.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# google-cloud-storage would ask every bucket for metadata that only traces use.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

# The same examples every time, and no test of time: the machine may be busy.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parents[1]

LONGEST = (
    # One group, for the image is built once.
    "tests/image/",
    "tests/e2e/test_chaos.py",
    "tests/e2e/",
    "tests/integration/training/",
    "tests/integration/",
)
"""Where the tests are that take longest, longest first: they begin first, so that at the end no process waits long."""


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each file to one process, and all of tests/image to one."""

    def _split_scope(self, nodeid: str) -> str:
        return LONGEST[0] if nodeid.startswith(LONGEST[0]) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        return next((number for number, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    # One process alone keeps to the order of the files.
    if hasattr(config, "workerinput"):
        items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gives each process a cache of its own: buckets of different tests have the same names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
