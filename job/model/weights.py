"""The numbers a backbone starts from: Keras's ImageNet weights, or a file, checked against the architecture.

Keras itself loads every file into a network of its own making, without what is before and behind it in the classifier:
Keras counts the layers of the model it loads into to match a file's names.
"""

from __future__ import annotations

import hashlib
import io
import math
import socket
import urllib.error
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from job import storage
from job.errors import ConfigError, InputMissingError, JobError, TemporaryError
from job.model.backbones import Backbone
from job.storage import transfer

IMAGENET = "imagenet"
"""Keras's own weights, trained on ImageNet-1k; for a custom backbone those in its file."""
NONE = "none"
"""Random initial weights."""
SUFFIXES = (".weights.h5", ".h5", ".keras")


def fetch(uri: str, sha256: str | None, to_dir: Path) -> Path:
    """Returns a local copy of a weights file; a plain path or file:// stays where it is.

    A copy is taken again only when the object has another version by now, or the copy was touched.

    Args:
        uri: A path, file://, gs://, s3:// or az://, of one file.
        sha256: Lower-case hex the content must have, or None.
        to_dir: Where a remote file goes: under its own name, in a folder for each folder it may come from.

    Raises:
        InputMissingError: When nothing is at `uri`.
        ConfigError: When the content has another checksum, or the name another ending than `SUFFIXES`.
    """
    _check_suffix(uri)
    if storage.at(uri).stat("") is None:
        raise _missing(uri)
    path = storage.local_path(uri)
    if path is None:
        folder, name = storage.split(uri)
        to_dir = to_dir / hashlib.sha256(folder.encode()).hexdigest()[:12]
        transfer.pull(storage.at(folder), to_dir, names=[name])
        path = to_dir / name
    if sha256 and (received := sha256_of(path)) != sha256:
        raise ConfigError(
            f"{uri} has the SHA-256 {received}, but {sha256} is required.",
            next_step="Correct the checksum in the config, or find out who changed the file.",
        )
    return path


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _missing(uri: str) -> InputMissingError:
    return InputMissingError(f"There is no weights file at {uri!r}.", next_step="Check model.weights.")


def _check_suffix(uri: str) -> None:
    if not uri.endswith(SUFFIXES):
        raise ConfigError(
            f"model.weights: {uri!r} has none of the endings {', '.join(SUFFIXES)}, by which Keras tells the formats.",
            next_step="Rename the file after its format, or save it again with Keras.",
        )


def load(network: Any, backbone: Backbone, weights: str | Path, image_px: int) -> None:
    """Sets the network of a row to pretrained weights.

    Args:
        network: From the backbone's own input to its pooled output, the layers of `construct`.
        backbone: A row with a constructor (not a custom one).
        weights: "imagenet" or a local file.
        image_px: Chooses among the sizes ImageNet weights exist for: the smallest not below it.

    Raises:
        InputMissingError, TemporaryError: When the weights are not there or cannot be downloaded.
        ConfigError: When the file does not fit the backbone; says what differs.
    """
    if not isinstance(weights, Path):
        network.set_weights(_imagenet(backbone, image_px))
    elif (received := _num_arrays(weights)) <= len(network.weights):
        _load(network, weights, received, backbone.name)
    else:
        # Perhaps with the 1,000-class top: then it needs a network with that top.
        source = getattr(keras.applications, backbone.constructor)(weights=None, **backbone.kwargs)
        load_file(source, weights, f"{backbone.name} with its 1,000-class top")
        network.set_weights(source.get_weights()[: len(network.weights)])


def construct(backbone: Backbone, px: int, *, weights: str | None = None, tensor: Any = None) -> Any:
    """Returns Keras's own model of a row without its top, pooled: float32 [B, px, px, 3] → [B, D]."""
    shape = {"input_shape": (px, px, 3)} if tensor is None else {"input_tensor": tensor}
    with warnings.catch_warnings():
        # "Weights for input shape (224, 224) will be loaded": said also where none are loaded.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined")
        return getattr(keras.applications, backbone.constructor)(
            include_top=False, weights=weights, pooling="avg", **shape, **backbone.kwargs
        )


def load_file(model: Any, path: Path, name: str) -> None:
    """Loads a weights file of any format Keras knows into a model of the same architecture.

    Args:
        model: Built.
        path: Ends in one of `SUFFIXES`.
        name: Of the architecture, for the message.

    Raises:
        InputMissingError: When there is no such file.
        ConfigError: When it is no weights file, or that of another architecture.
    """
    _load(model, path, _num_arrays(path), name)


def _load(model: Any, path: Path, received: int, name: str) -> None:
    """Loads a file of `received` arrays, as above."""
    expected = len(model.weights)
    reason = f"{received - expected} arrays would be left over"
    if received <= expected:
        with warnings.catch_warnings(record=True) as skipped:
            warnings.filterwarnings("always", message="Skipping nested container")
            try:
                model.load_weights(str(path))
            except (ValueError, KeyError, TypeError, OSError, IndexError) as error:
                reason = _first_difference(str(error))
            else:
                if not skipped:
                    return
                # Keras leaves such layers as they were initialised and only warns.
                reason = _first_difference(str(skipped[0].message))
    num_parameters = math.fsum(math.prod(weight.shape) for weight in model.weights)
    raise ConfigError(
        f"The weights in {str(path)!r} do not fit the backbone {name}: it has {expected} arrays "
        f"({num_parameters:,.0f} numbers), the file has {received}. First difference: {reason}.",
        next_step="Set model.backbone to the architecture the file was saved from "
        "(allowed: a file of that backbone, without a head or with Keras's 1,000-class one).",
    )


def _first_difference(message: str) -> str:
    """Returns the part of Keras's message that names a layer and what differs, on one line."""
    text = message.partition("List of objects that could not be loaded")[0]
    text = text.partition("Target variable:")[0]  # prints all its numbers
    return " ".join(text.partition("Example error message for object ")[2].split() or text.split()).rstrip(".")


def _num_arrays(path: Path) -> int:
    """Returns how many weight arrays a file holds; not counted are optimizers, random states and losses."""
    _check_suffix(path.name)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return _count(io.BytesIO(archive.read("model.weights.h5")))
        return _count(path)
    except FileNotFoundError as error:
        raise _missing(str(path)) from error
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"model.weights: {str(path)!r} is not a weights file of Keras: {error}.",
            next_step="Check that it was downloaded whole and is not, for example, a web page.",
        ) from error


def _count(file: Path | io.BytesIO) -> int:
    names: list[str] = []
    with h5py.File(file, "r") as content:
        content.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    others = ("seed_generator", "optimizer", "optimizer_weights")
    return sum(not set(name.split("/")) & set(others) for name in names)


def _imagenet(backbone: Backbone, image_px: int) -> list[np.ndarray]:
    sizes = backbone.weights_px or (backbone.native_px,)
    px = next((size for size in sizes if size >= image_px), sizes[-1])
    try:
        arrays: list[np.ndarray] = construct(backbone, px, weights=IMAGENET).get_weights()
    except JobError:
        raise
    except Exception as error:  # get_file raises plain Exception, with the cause as context
        raise download_error(backbone, error) from error
    return arrays


def download_error(backbone: Backbone, error: Exception) -> JobError:
    cause = error.__context__ if isinstance(error.__context__, urllib.error.URLError) else error
    message = f"The ImageNet weights of {backbone.name} could not be downloaded with Keras: {error}."
    next_step = (
        "Download the file on a machine that has access, put it into your bucket and set model.weights to its URI"
    )
    is_missing = isinstance(cause, urllib.error.HTTPError) and cause.code in (401, 403, 404, 410)
    reason = getattr(cause, "reason", None)
    # No name server knows the host: a closed network, where trying again does not help.
    if is_missing or (isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN):
        return InputMissingError(message, next_step=f"{next_step}.")
    return TemporaryError(message, next_step=f"Start the job again. {next_step} where the network is closed.")
