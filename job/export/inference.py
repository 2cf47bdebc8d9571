"""Uses an exported model, for `finetune predict` and `finetune evaluate`. Needs the SavedModel and TensorFlow only.

A bad image costs an error row with its name, never its batch: TensorFlow fails a whole batch for one file and does
not say which, so a failed batch is halved until the bad file is alone.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from job.errors import DatasetError, InputMissingError, JobError, nearest
from job.evaluation import metrics
from job.export.predictions import Prediction

# log(probability) of a class whose float32 probability rounds to 0.
_LEAST_LOG = -104.0

_BATCHES_AT_ONCE = 2
"""One is decoded while the model works on another."""

_Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Image:
    """An image to be read: its name, and what returns its file's bytes (called in a thread of its own)."""

    uri: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How an exported model does on labelled images.

    Attributes:
        scores: Of the images that could be read; calibrated.
        intervals: 95 %, of `metrics.confidence_intervals`.
        uris: N names, in the order of logits and labels.
        logits: float32 [N, K]: logarithms of the calibrated probabilities.
        labels: int32 [N].
        errors: Images that could not be read.
    """

    scores: metrics.Scores
    intervals: dict[str, tuple[float, float]]
    uris: tuple[str, ...]
    logits: _Scores
    labels: npt.NDArray[np.int32]
    errors: tuple[Prediction, ...]


class Classifier:
    """A loaded SavedModel.

    Attributes:
        classes: K names, in label order.
    """

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded  # holds the variables; signatures alone do not
        self._serve = loaded.signatures["serving_default"]
        self.classes = tuple(name.decode() for name in loaded.signatures["labels"]()["labels"].numpy())

    def scores(self, files: Sequence[bytes]) -> list[_Scores | str]:
        """Returns for each image file its calibrated probabilities, float32 [K], or why it has none.

        Args:
            files: B image files.
        """
        try:
            return list(self._serve(image_bytes=tf.constant(list(files), tf.string))["scores"].numpy()) if files else []
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if len(files) == 1:
                return [f"cannot be decoded: {_said(error)}"]
            half = len(files) // 2
            return self.scores(files[:half]) + self.scores(files[half:])


def load(model_dir: Path) -> Classifier:
    """Loads a SavedModel that this job exported.

    Raises:
        InputMissingError: When there is no SavedModel, or it lacks the job's signatures. Says which.
    """
    if not (model_dir / "saved_model.pb").is_file():
        raise InputMissingError(
            f"There is no SavedModel at {model_dir}: saved_model.pb is missing.",
            next_step="Give the folder of one version, such as <output>/export/1.",
        )
    loaded = tf.saved_model.load(str(model_dir))
    missing = {"serving_default", "labels"} - set(loaded.signatures)
    if missing:
        raise InputMissingError(
            f"The SavedModel at {model_dir} has the signatures {sorted(loaded.signatures)}; "
            f"it lacks {sorted(missing)}.",
            next_step="Give a model exported by finetune-job.",
        )
    return Classifier(loaded)


def predict(
    classifier: Classifier, images: Iterable[Image], *, top: int = 3, batch: int = 32, threads: int = 8
) -> Iterator[Prediction]:
    """Yields a prediction for each image, in order, reading ahead while the model works.

    Args:
        classifier: Of `load`.
        images: Read lazily; at most 5 batches of files are in memory.
        top: Classes a prediction, at least 1; cut to K.
        batch: Images at a time, at least 1.
        threads: That read files.
    """
    for image, scores in _scored(classifier, images, batch, threads):
        if isinstance(scores, str):
            yield Prediction(image.uri, error=scores)
        else:
            best = np.argsort(-scores, kind="stable")[:top]
            yield Prediction(
                image.uri, tuple(classifier.classes[i] for i in best), tuple(float(scores[i]) for i in best)
            )


def evaluate(
    classifier: Classifier,
    images: Iterable[tuple[Image, str]],
    *,
    top_k: int = 5,
    resamples: int = 1000,
    seed: int = 0,
    batch: int = 32,
    threads: int = 8,
) -> Evaluation:
    """Scores the model on labelled images.

    Args:
        classifier: Of `load`.
        images: (image, class name) pairs; all names are checked before any image is read.
        top_k: k of the top-k accuracy.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        batch: Images at a time.
        threads: That read files.

    Raises:
        DatasetError: When a class is unknown to the model, or no image can be read.
    """
    pairs = list(images)
    _check_names({name for _, name in pairs}, classifier.classes)
    index = {name: at for at, name in enumerate(classifier.classes)}
    uris, logits, labels, errors = [], [], [], []
    found = _scored(classifier, (image for image, _ in pairs), batch, threads)
    for (_, name), (image, scores) in zip(pairs, found, strict=True):
        if isinstance(scores, str):
            errors.append(Prediction(image.uri, error=scores))
        else:
            with np.errstate(divide="ignore"):
                logits.append(np.maximum(np.log(scores), np.float32(_LEAST_LOG)))
            labels.append(index[name])
            uris.append(image.uri)
    if not logits:
        first = f" The first: {errors[0].uri}: {errors[0].error}." if errors else ""
        raise DatasetError(
            f"None of the {len(pairs)} images could be scored; at least one is needed.{first}",
            next_step="Check the folder with `finetune check`.",
        )
    stacked, true = np.stack(logits), np.array(labels, np.int32)
    return Evaluation(
        scores=metrics.score(stacked, true, top_k=top_k),
        intervals=metrics.confidence_intervals(stacked, true, resamples=resamples, seed=seed, top_k=top_k),
        uris=tuple(uris),
        logits=stacked,
        labels=true,
        errors=tuple(errors),
    )


def _scored(
    classifier: Classifier, images: Iterable[Image], batch: int, threads: int
) -> Iterator[tuple[Image, _Scores | str]]:
    source = iter(images)
    waiting: deque[tuple[Image, Future[bytes | str]]] = deque()
    at_work: deque[tuple[list[tuple[Image, bytes | str]], Future[list[_Scores | str]]]] = deque()
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="read-image") as reading,
        ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="score-batch") as scoring,
    ):
        try:
            while True:
                while len(at_work) < _BATCHES_AT_ONCE:
                    ahead = itertools.islice(source, 3 * batch - len(waiting))
                    waiting.extend((image, reading.submit(_read, image)) for image in ahead)
                    if not waiting:
                        break
                    current = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                    read = [(image, future.result()) for image, future in current]
                    files = [data for _, data in read if isinstance(data, bytes)]
                    at_work.append((read, scoring.submit(classifier.scores, files)))
                if not at_work:
                    return
                read, scored = at_work.popleft()
                scores = iter(scored.result())
                for image, data in read:
                    yield image, data if isinstance(data, str) else next(scores)
        finally:
            for _, future in waiting:
                future.cancel()


def _read(image: Image) -> bytes | str:
    """Returns the file, or why it cannot be read."""
    try:
        return image.read()
    except (OSError, JobError) as error:
        return f"cannot be read: {error}"


def _said(error: tf.errors.OpError) -> str:
    """Returns the one line of TensorFlow's message that is about the image."""
    lines = [line.strip() for line in cast(str, error.message).splitlines()]
    about_graph = ("Graph execution error", "Detected at node", "<stack traces", "[[{{", "(1) ", "0 successful")
    said = [line for line in lines if line and not line.startswith(about_graph)]
    return said[0].split(" [Op:")[0].removeprefix("(0) INVALID_ARGUMENT: ").strip() if said else "not an image"


def _check_names(names: set[str], classes: Sequence[str]) -> None:
    unknown = sorted(names - set(classes))
    if unknown:
        raise DatasetError(
            f"The data has {len(unknown)} classes that the model does not know: {', '.join(map(repr, unknown[:5]))}"
            f"{' …' if len(unknown) > 5 else ''}; it knows {len(classes)}: {', '.join(classes[:5])}"
            f"{' …' if len(classes) > 5 else ''}.{nearest(unknown[0], classes)}",
            next_step="Rename the classes, or evaluate the model on the classes it was trained on.",
        )
