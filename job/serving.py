"""`finetune predict` and `finetune evaluate`: an exported model from any storage, on images from any storage."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from job import config as configs
from job import rundir
from job.console import console
from job.dataset import layouts
from job.errors import InputMissingError
from job.export import inference, predictions
from job.export.inference import Classifier, Image
from job.interruption import Stop
from job.platforms import recognise
from job.stages import pull
from job.storage import at, is_remote, join, local_path, split, transfer
from job.workspace import Workspace, slug, work_root

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def predict(model_uri: str, uris: Sequence[str], *, output: str | None, top: int) -> None:
    """Classifies images and prints or writes the predictions; an image that cannot be read gets a row that says so.

    Raises:
        InputMissingError: When there is no model, or no image.
        UsageError: When `output` is neither .csv nor .jsonl.
    """
    if output:
        predictions.check_form(Path(output))
    images = [image for uri in uris for image in _images(uri)]
    classifier = load(model_uri)
    found = inference.predict(classifier, images, top=top)
    if output is None:
        for one in found:
            best = "  ".join(f"{name} {score:.1%}" for name, score in zip(one.classes, one.scores, strict=True))
            print(f"{one.uri}: {best or one.error}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, name = split(output)
        path = local_path(output) or Path(scratch) / name
        num_fine, num_bad = predictions.write(found, path, top=top)
        if is_remote(output):
            at(folder).upload(path, name)
    print(f"{num_fine} images classified, {num_bad} could not be read: {output}")


def evaluate(model_uri: str, data_uri: str, *, as_json: bool) -> None:
    """Scores a model on labelled images and prints the scores.

    Raises:
        InputMissingError: When there is no model or no data.
        DatasetError: When a class is unknown to the model, or no image can be read.
    """
    # The output is a name for the cache; nothing is written to it.
    settings = configs.load(values={"data.uri": data_uri, "output": "evaluate"})
    workspace = Workspace.open(settings, recognise(os.environ), console(sys.stderr), Stop(), is_run=False)
    path = pull.dataset(workspace)
    examples = layouts.read(path, work_dir=workspace.cache_dir)
    local = pull.named_images(workspace, path)
    # Nothing of the images leaves this command, so links may lead anywhere.
    reader = layouts.reader(path, work_dir=workspace.cache_dir, local=local, follow_links=True)
    pairs = [(Image(one.uri, functools.partial(reader.read, one.uri)), one.label) for one in examples]
    classifier = load(model_uri)
    found = inference.evaluate(classifier, pairs)
    scores = found.scores
    if as_json:
        print(json.dumps({**scores.to_dict(), "intervals": found.intervals, "num_unreadable": len(found.errors)}))
        return
    low, high = found.intervals["accuracy"]
    print(f"accuracy {scores.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}) on {scores.num_images} images")
    print(f"top-{scores.k} {scores.top_k_accuracy:.4f}, log loss {scores.log_loss:.4f}, macro F1 {scores.macro_f1:.4f}")
    for name, one in zip(classifier.classes, scores.per_class, strict=True):
        print(f"  {name:<24} precision {one.precision:.3f}  recall {one.recall:.3f} F1 {one.f1:.3f} ({one.support})")
    for error in found.errors:
        print(f"  not read: {error.uri}: {error.error}")


def load(model_uri: str) -> Classifier:
    """Returns the exported model at `model_uri`: its own folder, or that of its run."""
    uri = model_uri.rstrip("/")
    is_run = at(uri).stat("saved_model.pb") is None
    if is_run:
        uri = join(uri, rundir.EXPORT, rundir.EXPORT_VERSION)
    if at(uri).stat("saved_model.pb") is None:
        raise InputMissingError(
            f"There is no exported model at {model_uri}, and none at {uri}.",
            next_step="Give the output of a finished run, or its export/1.",
        )
    if (path := local_path(uri)) is not None:
        return inference.load(path)
    folder = work_root(configs.Config()) / "models" / slug(uri)
    transfer.pull(at(uri), folder)
    return inference.load(folder)


def _images(uri: str) -> Iterator[Image]:
    """Yields the images at a URI: itself, or everything in its folder that is named like an image."""
    store = at(uri)
    if store.stat("") is not None:
        folder, name = split(uri)
        yield Image(uri, functools.partial(at(folder).read, name))
        return
    found: Iterable[str] = [info.name for info in store.list() if info.name.lower().endswith(IMAGE_EXTENSIONS)]
    if not found:
        raise InputMissingError(
            f"There is no image at {uri}: neither a file nor a folder with files named {', '.join(IMAGE_EXTENSIONS)}.",
            next_step="Check the path, or name a file.",
        )
    for name in found:
        yield Image(join(uri, name), functools.partial(store.read, name))
