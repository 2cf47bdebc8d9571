"""The image, built once for all tests here from the working tree, and an object store in a container of its own.

Building takes the tools that `scripts/build-image --install-tools` installs, root, and a line to Debian and PyPI. Where
podman or mmdebstrap is not there the tests skip with the reason; where CI is set they fail, unless .ci/run tried to
install them, could not, and says why in FINETUNE_NO_CONTAINERS. FINETUNE_IMAGE_STORE names a folder that keeps what was
built for the next time; without it everything is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.demo import images
from job.storage import Store, at
from tests.image.containers import HARDENED, REPOSITORY, Podman, with_environment

TOOLS = ("podman", "mmdebstrap")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The first test builds the image: its limit is the build's.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="package")
def podman() -> Iterator[Podman]:
    """Returns podman with a store of its own."""
    if reason := os.environ.get("FINETUNE_NO_CONTAINERS"):
        pytest.skip(reason)
    missing = [name for name in TOOLS if shutil.which(name) is None]
    reason = f"{' and '.join(missing)} not there: scripts/build-image --install-tools" if missing else ""
    if not reason and os.geteuid() != 0:
        reason = "these tests make a base image and read what a container's user wrote: they need root"
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    kept = os.environ.get("FINETUNE_IMAGE_STORE")
    store = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="finetune-image-"))
    found = Podman(
        with_environment(
            CONTAINERS_CONF=str(store / "containers.conf"),
            CONTAINERS_STORAGE_CONF=str(store / "storage.conf"),
            FINETUNE_IMAGE_STORE=str(store),
        )
    )
    try:
        yield found
    finally:
        if not kept:
            # Unmounts what the store's driver mounted; only then can the folder be removed.
            found("system", "reset", "--force", check=False)
            shutil.rmtree(store)


def build(podman: Podman, *arguments: str, variant: str = "cpu") -> str:
    """Returns what scripts/build-image said as it built."""
    store = podman.environ["FINETUNE_IMAGE_STORE"]
    command = [
        str(REPOSITORY / "scripts" / "build-image"),
        "--variant",
        variant,
        "--base-from-debian",
        "--store",
        store,
    ]
    done = subprocess.run(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="package")
def image(podman: Podman) -> str:
    """Returns the name of the image, the cpu variant."""
    assert "Built finetune-test:cpu with podman." in build(podman, "--engine", "podman", "--tag", "finetune-test:cpu")
    return "localhost/finetune-test:cpu"


@pytest.fixture(scope="package")
def sagemaker_image(podman: Podman, image: str) -> str:
    """Returns the name of the other target; all its layers but the last are those of `image`."""
    build(podman, "--engine", "podman", "--target", "sagemaker", "--tag", "finetune-test:sagemaker")
    return "localhost/finetune-test:sagemaker"


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the demo's images: five classes of 12, and the five odd files."""
    folder = tmp_path_factory.mktemp("parts") / "parts"
    images.write_dataset(folder, per_class=12, seed=0)
    return folder


@pytest.fixture(scope="package")
def object_store(podman: Podman, image: str, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns the URL of an object store that runs in the image; gs://photos has the images, gs://runs is empty."""
    buckets = tmp_path_factory.mktemp("buckets")
    shutil.copytree(parts, buckets / "photos" / "parts")
    (buckets / "runs").mkdir()
    flags = [*HARDENED, "--network=host", f"--volume={buckets}:/buckets:ro"]
    server = podman.started(image, "-m", "job.demo.object_store", "--folder", "/buckets", flags=flags, python=True)
    buckets.chmod(0o755)
    with server as container:
        assert container.process.stdout is not None
        url = container.process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), url
        yield url


@pytest.fixture
def runs(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Returns the bucket gs://runs, seen from outside the containers."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", object_store)
    return at("gs://runs")


@pytest.fixture(scope="package")
def connected(object_store: str) -> tuple[str, ...]:
    """Returns the flags of a hardened container that reaches the object store."""
    return (*HARDENED, "--network=host", f"--env=STORAGE_EMULATOR_HOST={object_store}")
