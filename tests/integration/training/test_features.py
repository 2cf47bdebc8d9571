"""Features of a frozen trunk: exact, computed once, never taken from another model or half a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.dataset.pack import PackedPixels
from job.errors import StoppedError
from job.model import cut as cuts
from job.training.features import FeatureCache
from job.training.forward import Progress
from job.training.recipe import Augmentation
from job.training.views import Views
from tests.integration.training import tiny

N, PX = 11, 8
EXAMPLES = np.array([0, 2, 3, 5, 7, 8, 10])
VIEWS = Views(3, PX, Augmentation(flip=True, crop_scale=0.5, color=0.2))


def classifier(seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((PX, PX, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    maps = keras.layers.Conv2D(4, 3, activation="relu", name="block1_out")(scaled)
    maps = keras.layers.Conv2D(5, 3, activation="relu", name="block2_out")(maps)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    features = keras.layers.Identity(name="features")(pooled)
    return keras.Model(pixels, keras.layers.Dense(3, name="logits")(features))


@pytest.fixture
def pixels(tmp_path: Path) -> PackedPixels:
    images = np.random.default_rng(0).integers(0, 256, (N, PX, PX, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", images)
    return PackedPixels(tmp_path / "pixels.npy")


class Unreadable:
    """Pixels that nobody may ask for."""

    def __len__(self) -> int:
        return N

    def gather(self, indices: np.ndarray) -> np.ndarray:
        raise AssertionError("the images were read again")


class Counting:
    """Pixels that remember who asked for which of them."""

    def __init__(self, pixels: PackedPixels) -> None:
        self._pixels = pixels
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return N

    def gather(self, indices: np.ndarray) -> np.ndarray:
        self.asked.append(indices.tolist())
        return self._pixels.gather(indices)


def cache(
    model: Any, pixels: Any, folder: Path, *, views: Views = VIEWS, key: str = "data", **settings: Any
) -> FeatureCache:
    settings = {"folder": folder, "batch": 4, "budget_bytes": 1e9, "key": key, **settings}
    return FeatureCache(model, pixels, tiny.SINGLE, views, **settings)


def lower_cut(model: Any) -> Any:
    return next(cut for cut in cuts.boundaries(model) if cut.layer_name == "block1_out")


def test_plain_features_are_those_of_the_model(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    for cut in (lower_cut(model), cuts.features_cut(model)):
        trunk, _ = cuts.split(model, cut)
        wanted = trunk(pixels.gather(EXAMPLES).astype(np.float32)).numpy()
        found = cache(model, pixels, tmp_path / cut.layer_name).plain(cut, EXAMPLES)
        np.testing.assert_allclose(found.plain(EXAMPLES[::-1]), wanted[::-1], atol=1e-6)
        assert wanted.std() > 1e-3


def test_a_higher_cut_goes_on_from_a_lower_one(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    direct = cache(model, pixels, tmp_path / "direct").plain(cuts.features_cut(model), EXAMPLES)
    source = cache(model, pixels, tmp_path / "steps")
    source.plain(lower_cut(model), EXAMPLES)
    source._pixels = Unreadable()
    found = source.plain(cuts.features_cut(model), EXAMPLES)
    np.testing.assert_allclose(found.plain(EXAMPLES), direct.plain(EXAMPLES), atol=1e-6)


def test_a_second_start_computes_nothing_again(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = lower_cut(model)
    told: list[tuple[int, int]] = []
    first = cache(model, pixels, tmp_path / "f")
    plain = first.plain(cut, EXAMPLES)
    views = first.views(cut, plain, EXAMPLES, num_views=3, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2 * len(EXAMPLES), 2 * len(EXAMPLES))
    again = cache(model, Unreadable(), tmp_path / "f")
    same = again.views(cut, again.plain(cut, EXAMPLES), EXAMPLES, num_views=3)
    for one, other in zip(views.views, same.views, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("number", [0, 1])
def test_a_start_after_a_stop_goes_on_behind_the_last_row(number: int, pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = lower_cut(model)

    def compute(folder: str, source: Any, on_progress: Progress | None) -> np.ndarray:
        maker = cache(model, source, tmp_path / folder)
        if number == 0:
            return maker.plain(cut, EXAMPLES, on_progress=on_progress).views[0].values
        plain = cache(model, pixels, tmp_path / folder).plain(cut, EXAMPLES)
        return maker.views(cut, plain, EXAMPLES, num_views=2, on_progress=on_progress).views[1].values

    def stop(done: int, total: int) -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        compute("parts", pixels, stop)
    counted = Counting(pixels)
    told: list[tuple[int, int]] = []
    values = compute("parts", counted, lambda done, total: told.append((done, total)))
    # A batch of four was there; the last three of seven are left.
    assert counted.asked == [EXAMPLES[4:].tolist()]
    assert told == [(7, 7)]
    np.testing.assert_array_equal(values, compute("whole", pixels, None))
    assert not list((tmp_path / "parts").glob("*.partial.json"))


def test_rows_are_noted_as_time_goes_by(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    hours = iter(range(100))
    source = cache(model, pixels, tmp_path / "f", clock=lambda: 3600.0 * next(hours))
    noted: list[int] = []

    def look(done: int, total: int) -> None:
        (note,) = (tmp_path / "f").glob("*.partial.json")
        noted.append(json.loads(note.read_text())["rows"])

    source.plain(lower_cut(model), EXAMPLES, on_progress=look)
    assert noted == [4, 7]


def test_a_full_disk_is_said_before_anything_is_computed(tmp_path: Path, pixels: PackedPixels) -> None:
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from job.errors import TemporaryError\n"
        "from job.training.features import _reserve\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "try: _reserve(Path(sys.argv[1]) / 'view.npy', (1000, 100))\n"
        "except TemporaryError as error: print(error.message)\n"
        "print(sorted(Path(sys.argv[1]).glob('view*')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    said, left = done.stdout.splitlines()
    assert said.startswith(f"the disk is full while writing {tmp_path}/view.npy, which needs 0.4 MB; "), done.stderr
    assert left == "[]"


@pytest.mark.parametrize("change", ["weights", "key", "examples", "augmentation", "no marker"])
def test_what_belongs_to_something_else_is_not_taken(change: str, pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = lower_cut(model)
    cache(model, pixels, tmp_path / "f").plain(cut, EXAMPLES)
    examples, settings, views = EXAMPLES, {"key": "data"}, VIEWS
    if change == "weights":
        model = classifier(seed=1)
    elif change == "key":
        settings = {"key": "other data"}
    elif change == "examples":
        examples = EXAMPLES[:-1]
    elif change == "augmentation":
        views = Views(4, PX, VIEWS.augmentation)
    else:
        next((tmp_path / "f").glob("*.json")).unlink()
    with pytest.raises(AssertionError, match="read again"):
        cache(model, Unreadable(), tmp_path / "f", views=views, **settings).plain(cut, examples)


def test_the_head_is_no_part_of_any_feature(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = cuts.features_cut(model)
    before = cache(model, pixels, tmp_path / "f").plain(cut, EXAMPLES).plain(EXAMPLES)
    model.get_layer("logits").kernel.assign(np.ones((5, 3)))
    after = cache(model, Unreadable(), tmp_path / "f").plain(cut, EXAMPLES).plain(EXAMPLES)
    np.testing.assert_array_equal(after, before)


def test_every_view_is_shown_equally_often_and_the_first_is_plain(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = lower_cut(model)
    source = cache(model, pixels, tmp_path / "f")
    plain = source.plain(cut, EXAMPLES)
    views = source.views(cut, plain, EXAMPLES, num_views=3)
    trunk, _ = cuts.split(model, cut)
    shown = np.stack([views.fetch(EXAMPLES, np.full(len(EXAMPLES), epoch)) for epoch in range(3)])
    for place, index in enumerate(EXAMPLES):
        one = np.array([index])
        image = pixels.gather(one)
        wanted = [trunk(VIEWS.plain(image)).numpy()[0]]
        wanted += [trunk(VIEWS.augmented(image, VIEWS.randoms(view)(one))).numpy()[0] for view in (1, 2)]
        for epoch in range(3):
            np.testing.assert_allclose(shown[epoch, place], wanted[(epoch + index) % 3], atol=1e-5)
    np.testing.assert_allclose(views.plain(EXAMPLES), plain.plain(EXAMPLES))


def test_the_budget_counts_bytes_of_all_views(pixels: PackedPixels, tmp_path: Path) -> None:
    model = classifier()
    cut = lower_cut(model)
    source = cache(model, pixels, tmp_path / "f")
    source._budget_bytes = 6 * 6 * 4 * 4 * 10 * 2
    assert source.fits(cut, num_examples=10, num_views=2)
    assert not source.fits(cut, num_examples=10, num_views=3)
    assert not source.fits(cut, num_examples=11, num_views=2)
