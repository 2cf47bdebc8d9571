"""Weights from files and from Keras: every format, every fault."""

from __future__ import annotations

import hashlib
import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet
from keras.src.legacy.saving import legacy_h5_format

from job.errors import ConfigError, InputMissingError, TemporaryError
from job.model import backbones, classifier, weights

pytestmark = pytest.mark.filterwarnings(
    # Keras 3.15 saves with numpy.array(variable), which NumPy 2 wants to be told about copies.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

ROW = backbones.get("mobilenet_025")

KERAS_HOME = "keras.src.backend.config._KERAS_DIR"
"""Where Keras keeps downloads; it reads the environment only once, at import."""


def _theirs(include_top: bool = False) -> Any:
    shape = {} if include_top else {"input_shape": (224, 224, 3)}
    return keras.applications.MobileNet(alpha=0.25, weights=None, include_top=include_top, **shape)


def _save_legacy(model: Any, path: Path) -> Path:
    """Saves in the layout of the files Keras distributes: by layer name, in topological order."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def _save_keras(model: Any, path: Path) -> Path:
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return path


def loaded(source: str | Path, image_px: int = 64) -> list[np.ndarray]:
    """Returns the backbone's arrays in a classifier of another size than the file's."""
    built = classifier.build(ROW, weights=source, image_px=image_px, num_classes=2, dropout=0.0, seed=0)
    arrays: list[np.ndarray] = built.get_weights()
    return arrays[:-2]


@pytest.mark.parametrize("include_top", [False, True])
@pytest.mark.parametrize(
    ("name", "save"), [("a.weights.h5", _save_keras), ("a.h5", _save_legacy), ("a.keras", _save_keras)]
)
def test_every_format_loads_with_and_without_top(
    name: str, save: Callable[..., Path], include_top: bool, tmp_path: Path
) -> None:
    theirs = _theirs(include_top)
    arrays = loaded(save(theirs, tmp_path / name))
    assert len(arrays) == 135
    for received, expected in zip(arrays, theirs.get_weights(), strict=False):
        np.testing.assert_array_equal(received, expected)


def test_a_whole_model_in_the_old_format_loads(tmp_path: Path) -> None:
    theirs = _theirs()
    theirs.save(tmp_path / "whole.h5")
    received = loaded(tmp_path / "whole.h5")
    np.testing.assert_array_equal(received[-1], theirs.get_weights()[-1])


@pytest.mark.parametrize(
    ("name", "save"), [("a.weights.h5", _save_keras), ("a.h5", _save_legacy), ("a.keras", _save_keras)]
)
@pytest.mark.parametrize("other", ["mobilenet_050", "mobilenet_v2_035", "efficientnet_b0"])
def test_another_architecture_is_refused_and_named(
    other: str, name: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    row = backbones.get(other)
    path = save(weights.construct(row, 64), tmp_path / name)
    with pytest.raises(ConfigError) as error:
        loaded(path)
    message = str(error.value)
    assert "mobilenet_025" in message
    assert str(path) in message
    assert "135 arrays" in message or "137 arrays" in message
    assert "First difference: " in message
    assert "allowed" in message
    assert len(message) < 800


def test_a_part_of_the_weights_is_refused(tmp_path: Path) -> None:
    theirs = _theirs()
    half = keras.Model(theirs.input, theirs.get_layer("conv_pw_6_relu").output)
    with pytest.raises(ConfigError, match="First difference"):
        loaded(_save_keras(half, tmp_path / "half.weights.h5"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"gone\.h5"):
        loaded(tmp_path / "gone.h5")


@pytest.mark.parametrize("name", ["page.weights.h5", "page.h5", "page.keras"])
def test_a_web_page_is_not_a_weights_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<html>404</html>")
    with pytest.raises(ConfigError, match="is not a weights file"):
        loaded(tmp_path / name)


def test_an_unknown_ending_is_refused_with_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.weights\.h5, \.h5, \.keras"):
        loaded(tmp_path / "a.ckpt")


def test_efficientnet_from_a_file_equals_the_imagenet_one_of_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray, calibrate: Callable[..., None]
) -> None:
    """Keras's own "imagenet" branch runs here, on made-up weights put where it looks for its download."""
    row = backbones.get("efficientnet_b0")
    made_up = weights.construct(row, 64)
    normalization = next(layer for layer in made_up.layers if isinstance(layer, keras.layers.Normalization))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for variance in (std**3, std**2):  # live on what the first layer must give, then with the statistics of the file
        normalization.set_weights([mean, variance, np.int32(0)])
        normalization.finalize_state()
        if variance[0] == std[0] ** 3:
            calibrate(made_up, pixels)
    path = tmp_path / "models" / "efficientnetb0_notop.h5"
    path.parent.mkdir()
    _save_legacy(made_up, path)
    monkeypatch.setattr(KERAS_HOME, str(tmp_path))
    checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(efficientnet.WEIGHTS_HASHES, "b0", ("", checksum))

    theirs = keras.applications.EfficientNetB0(include_top=False, pooling="avg", input_shape=(64, 64, 3))
    expected = theirs(pixels, training=False).numpy()
    scale = np.abs(expected).max()
    naive = keras.applications.EfficientNetB0(
        include_top=False, pooling="avg", input_shape=(64, 64, 3), weights=str(path)
    )
    assert np.abs(naive(pixels, training=False).numpy() - expected).max() > 1e-2 * scale, "the trap is gone from Keras"
    for source in (path, "imagenet"):
        ours = classifier.build(row, weights=source, image_px=64, num_classes=2, dropout=0.0, seed=0)
        features = keras.Model(ours.input, ours.get_layer("features").output)
        np.testing.assert_allclose(features(pixels, training=False), expected, atol=1e-4 * scale)


def test_statistics_adapted_by_the_user_are_kept(tmp_path: Path) -> None:
    row = backbones.get("efficientnet_b0")
    theirs = weights.construct(row, 64)
    adapted = [np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32), np.int32(0)]
    next(layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization)).set_weights(adapted)
    path = _save_keras(theirs, tmp_path / "a.weights.h5")
    ours = classifier.build(row, weights=path, image_px=64, num_classes=2, dropout=0.0, seed=0)
    layer = next(layer for layer in ours.layers if isinstance(layer, keras.layers.Normalization))
    np.testing.assert_array_equal(layer.get_weights()[1], adapted[1])
    np.testing.assert_array_equal(np.ravel(layer.variance), adapted[1])


def test_without_a_network_the_error_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(KERAS_HOME, str(tmp_path))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(TemporaryError) as error:
        loaded("imagenet", 100)
    message = str(error.value)
    # The smallest of the sizes there are weights for that is not below the images'.
    assert "mobilenet_2_5_128_tf_no_top.h5" in message
    assert "mobilenet_025" in message
    assert "model.weights" in message


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "unknown name")), InputMissingError),
        (urllib.error.URLError(socket.gaierror(socket.EAI_AGAIN, "try again")), TemporaryError),
        (urllib.error.URLError(TimeoutError()), TemporaryError),
    ],
)
def test_a_closed_network_is_not_tried_again(cause: Exception, expected: type[Exception]) -> None:
    failed = Exception("URL fetch failure on https://example.org/a.h5")
    failed.__context__ = cause
    assert type(weights.download_error(ROW, failed)) is expected


def test_fetch_checks_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"abc")
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert weights.fetch(str(path), sha256, tmp_path / "to") == path
    assert weights.fetch(str(path), None, tmp_path / "to") == path
    assert weights.fetch(path.as_uri(), sha256, tmp_path / "to").read_bytes() == b"abc"
    with pytest.raises(ConfigError) as error:
        weights.fetch(str(path), "0" * 64, tmp_path / "to")
    assert all(part in str(error.value) for part in (str(path), sha256, "0" * 64))


def test_fetch_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"gone\.h5"):
        weights.fetch(str(tmp_path / "gone.h5"), None, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v2", "MobileNetV2_1.0_224_imagenet_notop.weights.h5"),
        ("mobilenet_025", "MobileNet_0.25_128_imagenet_notop.weights.h5"),
    ],
)
def test_real_imagenet_weights_tell_real_flowers_apart(name: str, file: str, assets: Path) -> None:
    row, path = backbones.get(name), assets / "weights" / file
    folders = sorted((assets / "data" / "flowers12" / "train").iterdir())[:4]

    def images(first: int) -> np.ndarray:
        paths = [path for folder in folders for path in sorted(folder.iterdir())[first : first + 5]]
        load = keras.utils.load_img
        return np.stack([keras.utils.img_to_array(load(path, target_size=(128, 128))) for path in paths])

    labels = np.repeat(np.arange(4), 5)

    def accuracy(source: str | Path) -> float:
        model = classifier.build(row, weights=source, image_px=128, num_classes=2, dropout=0.0, seed=0)
        features = keras.Model(model.input, model.get_layer("features").output)
        known, new = (features(images(first), training=False).numpy() for first in (0, 5))
        centres = np.stack([known[labels == label].mean(axis=0) for label in range(4)])
        nearest = np.linalg.norm(new[:, None] - centres, axis=2).argmin(axis=1)
        return float((nearest == labels).mean())

    trained, random = accuracy(path), accuracy("none")
    print(f"{name}: nearest centre of 4 flowers, {trained:.2f} with the weights, {random:.2f} without")
    assert trained >= 0.8
    assert random < trained
