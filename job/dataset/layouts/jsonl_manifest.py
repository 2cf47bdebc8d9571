"""One JSON object a line, in the form Vertex AI imports for single-label image classification.

    {"imageGcsUri": "gs://bucket/1.jpg", "classificationAnnotation": {"displayName": "cat"},
     "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}

A dataset that Vertex AI manages comes as shards, `training-*`, `validation-*` and `test-*` in one folder: together they
are the dataset, and a shard's name gives the split of its lines.

Sources: https://cloud.google.com/vertex-ai/docs/image-data/classification/prepare-data,
https://cloud.google.com/vertex-ai/docs/training/using-managed-datasets
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from job.dataset.example import Example
from job.dataset.layouts import manifest
from job.errors import DatasetError

ML_USE: Final = "aiplatform.googleapis.com/ml_use"
EXTENSIONS: Final = frozenset({".jsonl", ".ndjson"})
_SHARD: Final = re.compile(r"(?P<split>training|validation|test)-.*")
_FORM: Final = '{"imageGcsUri": "…", "classificationAnnotation": {"displayName": "…"}}'


def recognise(root: Path) -> bool:
    """Says whether `root` is or holds a .jsonl file."""
    return bool(_files(root))


def read(root: Path) -> list[Example]:
    """Returns an example a line, in the order of the file; `imageGcsUri` may also be relative to the file.

    Raises:
        DatasetError: When there is neither one file nor Vertex AI's shards, or a line is not of the form above. Names
            the line.
    """
    found = _files(root)
    if len(found) > 1 and all(map(_split, found)):
        return manifest.examples(line._replace(split=_split(path)) for path in found for line in _lines(path))
    return manifest.examples(_lines(manifest.only(root, found, layout="jsonl")))


def _files(root: Path) -> list[Path]:
    """Returns the manifest or the shards; these may have no extension."""
    found = manifest.files(root, EXTENSIONS)
    return found or [path for path in manifest.files(root, frozenset({""})) if _split(path)]


def _split(path: Path) -> str:
    """Returns the split that a shard's name gives, "" where it is no shard."""
    found = _SHARD.fullmatch(path.name)
    return found["split"] if found else ""


def _lines(path: Path) -> Iterator[manifest.Line]:
    # A file's lines, not str.splitlines(): a JSON string may hold U+2028, which is no line end in JSON Lines.
    for number, line in enumerate(manifest.open_text(path), start=1):
        if line.strip():
            yield _line(line, path.name, number)


def _line(line: str, file: str, number: int) -> manifest.Line:
    where = manifest.place(file, number)
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # Nested too deep, or a number of too many digits.
        raise DatasetError(f"{where} is not JSON: {error}.", next_step=f"Write {_FORM} on each line.") from error
    if isinstance(entry, dict) and "classificationAnnotations" in entry:
        raise DatasetError(
            f"{where} has several labels (classificationAnnotations); this job takes one label an image.",
            next_step="Export a single-label dataset: classificationAnnotation.",
        )
    image = _value(entry, "imageGcsUri", where=where)
    annotation = entry.get("classificationAnnotation", {})
    label = annotation.get("displayName", "") if isinstance(annotation, dict) else None
    resource_labels = entry.get("dataItemResourceLabels") or {}
    split = resource_labels.get(ML_USE, "") if isinstance(resource_labels, dict) else None
    if not (isinstance(label, str) and isinstance(split, str)):
        raise DatasetError(
            f"{where}: the label is {label!r} and {ML_USE} is {split!r}; both are strings.", next_step=f"Write {_FORM}."
        )
    return manifest.Line(file, number, image, label, split)


def _value(entry: Any, key: str, *, where: str) -> str:
    if not isinstance(entry, dict):
        raise DatasetError(f"{where} holds a {type(entry).__name__}, not an object.", next_step=f"Write {_FORM}.")
    value = entry.get(key)
    if not isinstance(value, str):
        raise DatasetError(
            f"{where} has no string {key!r}; it has {', '.join(map(repr, entry)) or 'nothing'}.",
            next_step=f"Write {_FORM}.",
        )
    return value
