"""A disk that fills up: foreseen where it can be, said clearly where not, and the work goes on once there is room."""

from __future__ import annotations

import io
import re
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from job.dataset.layouts import archive
from job.dataset.pack import allocate
from job.demo.object_store import ObjectStore
from job.errors import TemporaryError
from job.export import proof, saved_model
from job.export.saved_model import Geometry
from job.storage import at, disk
from job.storage.transfer import pull
from job.training.checkpoint import Checkpoints
from job.training.progress import Progress, Trained

SIZE_MB = 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Returns the folder of a file system of its own that holds 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as started:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", started.url)
        yield started


@pytest.fixture
def bucket(store: ObjectStore) -> dict[str, bytes]:
    """Returns the objects of gs://photos/set: 12 of half a megabyte."""
    content = {f"cats/{number:02d}.jpg": bytes([number]) * 500_000 for number in range(12)}
    for name, data in content.items():
        store.put("photos", f"set/{name}", data)
    return content


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_a_pull_that_does_not_fit_is_refused_before_its_first_byte(small_disk: Path, bucket: dict[str, bytes]):
    (small_disk / "ballast").write_bytes(bytes(5_000_000))
    with pytest.raises(TemporaryError, match=rf"needs 6\.0 MB more on the disk of {small_disk}/to; 3\.\d MB are free"):
        pull(at("gs://photos/set"), small_disk / "to")
    assert files(small_disk) == {}
    (small_disk / "ballast").unlink()
    pull(at("gs://photos/set"), small_disk / "to")
    assert files(small_disk / "to") == bucket


def test_a_disk_that_fills_up_during_a_pull_keeps_what_is_whole_and_goes_on(
    small_disk: Path, bucket: dict[str, bytes], store: ObjectStore
):
    ballast, lock, seen = small_disk / "ballast", threading.Lock(), []

    def somebody_else_fills_it(method: str, target: str, headers: Mapping[str, str]) -> None:
        """At the sixth download all that is free is taken, but for less than one more file."""
        with lock:
            seen.extend([target] if "alt=media" in target else [])
            if len(seen) == 6 and store.fault is not None:
                store.fault = None  # or it would fill it again, if the pull ended at the sixth
                ballast.write_bytes(bytes(disk.free_bytes(small_disk) - 400_000))

    store.fault = somebody_else_fills_it
    expected = rf"{small_disk}/to/cats/\d\d\.jpg(, which)? needs 0\.5 MB; \d\.\d MB are free"
    with pytest.raises(TemporaryError, match=expected) as caught:
        pull(at("gs://photos/set"), small_disk / "to")
    assert caught.value.exit_code == 75
    assert "continues where it stopped" in caught.value.next_step
    kept = files(small_disk / "to")
    assert kept.items() <= bucket.items()
    assert not list(small_disk.rglob("*.part"))
    ballast.unlink()
    assert pull(at("gs://photos/set"), small_disk / "to").num_fetched == len(bucket) - len(kept)
    assert files(small_disk / "to") == bucket


def test_a_checkpoint_that_does_not_fit_is_refused_and_the_one_before_stays(small_disk: Path, tmp_path: Path):
    def progress(step: int) -> Progress:
        weights = {0: np.full(500_000, step, np.float32)}
        return Progress([Trained("probe", 0, weights, np.zeros((2, 3), np.float32))], "head", step, step)

    (tmp_path / "out").mkdir()
    with Checkpoints(small_disk, at(str(tmp_path / "out")), keep=2, writes=True, on_error=pytest.fail) as saved:
        saved.save(progress(1), None)
        saved.wait()
        (small_disk / "ballast").write_bytes(bytes(5_000_000))
        saved.save(progress(2), None)
        folder = re.escape(f"{small_disk}/checkpoints/00000002-1-0")
        with pytest.raises(TemporaryError, match=rf"{folder} needs 2\.0 MB; 1\.\d MB are free") as caught:
            saved.wait()
        assert caught.value.exit_code == 75
        assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["00000001-1-0"]
        (small_disk / "ballast").unlink()
        assert Progress.load(saved.fetch(saved.newest())).total_steps == 1
        saved.save(progress(2), None)
        saved.wait()
        assert saved.newest() == "00000002-1-0"


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_that_does_not_fit_leaves_nothing_and_is_unpacked_once_there_is_room(
    small_disk: Path, tmp_path: Path, form: str
):
    (tmp_path / "data" / "cat").mkdir(parents=True)
    content = np.random.default_rng(0).bytes(1_000_000)
    for number in range(5):
        (tmp_path / "data" / "cat" / f"{number}.jpg").write_bytes(content)
    path = Path(shutil.make_archive(str(tmp_path / "set"), form, tmp_path / "data"))
    (small_disk / "ballast").write_bytes(bytes(5_000_000))
    with pytest.raises(TemporaryError, match=rf"unpacking the archive 'set\.{form}' .*; 3\.\d MB are free") as caught:
        archive.unpack(path, small_disk / "work")
    assert caught.value.exit_code == 75
    assert list((small_disk / "work").iterdir()) == []
    (small_disk / "ballast").unlink()
    assert len(files(archive.unpack(path, small_disk / "work"))) == 5


def test_a_pack_that_does_not_fit_is_not_made(small_disk: Path):
    assert not allocate(small_disk / "pixels.npy", 100, 224)
    assert list(small_disk.iterdir()) == []
    assert allocate(small_disk / "pixels.npy", 10, 224)


def test_tensorflow_says_it_in_other_words_and_is_understood(small_disk: Path):
    import tensorflow as tf

    large = tf.Variable(np.random.default_rng(0).random(3_000_000, np.float32))
    expected = rf"the disk is full while writing {small_disk}/state, which needs 0\.0 MB; \d\.\d MB are free"
    with pytest.raises(TemporaryError, match=expected), disk.filling(small_disk / "state", 0):
        tf.train.Checkpoint(large=large).write(str(small_disk / "state"))


def test_an_export_that_fills_the_disk_leaves_nothing_under_the_models_name_and_goes_on(
    small_disk: Path, tmp_path: Path
):
    model = small_model()
    write(model, tmp_path / "1")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "1").rglob("*") if path.is_file()}
    to = small_disk / "export" / "1"
    pages = 16 * 4096  # a file system counts in whole ones
    # Before its first byte; in the middle of the weights; after them, within the graph.
    for free in (400_000, 700_000, sizes["variables.data-00000-of-00001"] + pages):
        (small_disk / "ballast").unlink(missing_ok=True)
        ballast = fill_but(small_disk, free)
        with pytest.raises(TemporaryError, match=rf"{to}.* needs 0\.6 MB; \d\.\d MB are free") as caught:
            write(model, to)
        assert "continues where it stopped" in caught.value.next_step
        assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["ballast"], free
    ballast.unlink()
    write(model, to)
    assert {path.name: path.stat().st_size for path in to.rglob("*") if path.is_file()}.keys() == sizes.keys()


def test_a_proof_that_fills_the_disk_says_so_and_succeeds_once_there_is_room(small_disk: Path):
    export_dir = small_disk / "1"
    model = small_model()
    write(model, export_dir)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), np.uint8)
    files = []
    for one in pixels:
        with io.BytesIO() as buffer:
            Image.fromarray(one).save(buffer, "PNG")
            files.append(("a.png", buffer.getvalue()))

    def prove() -> proof.Proof:
        scores = np.exp(np.asarray(model(pixels.astype(np.float32))).astype(np.float64))
        scores /= scores.sum(axis=1, keepdims=True)
        with proof.fresh_process() as process:
            return proof.prove(
                process, export_dir, examples=files, expected_scores=scores, pixels=pixels, tolerance=1e-4
            )

    for free in (200_000, 600_000):  # beforehand; while the files are written
        ballast = fill_but(small_disk, free)
        with pytest.raises(TemporaryError, match=rf"{export_dir}/assets\.extra.* needs 0\.5 MB; 0\.\d MB are free"):
            prove()
        ballast.unlink()
    assert prove().num_examples == 300


def small_model() -> keras.Model:
    """Returns 154,203 weights, random ones: logits of a mean pixel that stay small."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 2550)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(200)(flat)))


def write(model: keras.Model, to: Path) -> None:
    saved_model.write(model, classes=("a", "b", "c"), temperature=1.0, geometry=Geometry("squash", 16, 16), to=to)


def fill_but(folder: Path, free_bytes: int) -> Path:
    """Returns the file that leaves so much of a small disk free."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(disk.free_bytes(folder) - free_bytes))
    return ballast


def test_another_error_passes_as_it_is(tmp_path: Path):
    with pytest.raises(KeyError), disk.filling(tmp_path / "a", 0):
        raise KeyError("a")


PULL = """
import pathlib, resource, signal, sys
from job.errors import TemporaryError
from job.storage import at
from job.storage.transfer import pull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    if sys.argv[2] == "limited":
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    print("fetched", pull(at("gs://photos/set"), pathlib.Path(sys.argv[1])).num_fetched)
except TemporaryError as error:
    print(error.exit_code, error.message)
"""


def test_a_limit_on_the_size_of_files_is_a_full_disk(bucket: dict[str, bytes], tmp_path: Path):
    """Works everywhere: no file system is mounted, the limit holds for one process."""

    def run(how: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", PULL, str(tmp_path), how], capture_output=True, text=True, check=True
        )
        return done.stdout

    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    said = run("limited")
    assert said.startswith("75 pulling from gs://photos/set: 12 of 12 failed")
    assert f"the disk is full while writing {tmp_path}/cats/" in said
    assert "which needs 0.5 MB" in said
    assert files(tmp_path) == {}
    assert not list(tmp_path.rglob("*.part"))
    assert run("unlimited") == "fetched 12\n"
    assert files(tmp_path) == bucket
