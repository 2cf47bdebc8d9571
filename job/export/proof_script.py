"""Repeats the proof of an exported model: `python -I prove.py [EXPORT_DIR]`. Needs TensorFlow and numpy only.

A copy of this file lies in the `assets.extra` of every SavedModel, beside golden inputs and outputs. It loads the
model, feeds it the original bytes of a few images and the pixels that training made of them, and compares the
probabilities with those that the evaluation of the run found. Prints one JSON line; exits 1 where they differ.
It imports nothing of the package that wrote the model: that is the point. With "-" for the folder it reads its name
from a line of standard input: the job starts it so, ahead of time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

Outputs = dict[str, Any]


def check(export_dir: Path) -> dict[str, Any]:
    """Returns what was compared and, under "failures", a line for everything that differs."""
    golden_dir = export_dir / "assets.extra" / "golden"
    golden = json.loads((golden_dir / "golden.json").read_text(encoding="utf-8"))
    pixels = np.load(golden_dir / golden["pixels"], allow_pickle=False)
    classes, tolerance = golden["classes"], golden["tolerance"]
    signatures = tf.saved_model.load(str(export_dir)).signatures
    failures = []
    served = [name.decode() for name in signatures["labels"]()["labels"].numpy()]
    if served != classes:
        at = next((i for i, (a, b) in enumerate(zip(served, classes, strict=False)) if a != b), len(served))
        failures.append(f"labels: {served[at : at + 3]} from position {at} on, expected {classes[at : at + 3]}")
    largest = {"pixels": 0.0, "bytes": 0.0}
    num_agreeing = 0
    for example, image in zip(golden["examples"], pixels, strict=True):
        expected = np.array(example["scores"], np.float32)
        data = (golden_dir / example["file"]).read_bytes()
        outputs = {
            "pixels": signatures["pixels"](pixels=tf.constant(image[None], tf.float32)),
            "bytes": signatures["serving_default"](image_bytes=tf.constant([data])),
        }
        for kind, output in outputs.items():
            found = output["scores"].numpy()[0]
            if found.shape != expected.shape or not np.isfinite(found).all():
                failures.append(f"{kind} of {example['name']}: scores {found}, expected {expected}")
                continue
            difference = float(np.abs(found - expected).max())
            largest[kind] = max(largest[kind], difference)
            if difference > tolerance[kind]:
                failures.append(
                    f"{kind} of {example['name']}: probabilities differ by {difference:.2g}, allowed are "
                    f"{tolerance[kind]:.2g}: {_best(found, served)}, expected {_best(expected, classes)}"
                )
            failures += _inconsistent(f"{kind} of {example['name']}", output, found, served)
        num_agreeing += int(np.argmax(outputs["bytes"]["scores"].numpy()[0]) == np.argmax(expected))
    if "job" in sys.modules:
        failures.append("the package that wrote the model was imported, so nothing is proven")
    return {
        "num_examples": len(pixels),
        "num_agreeing": num_agreeing,
        "pixels_difference": largest["pixels"],
        "bytes_difference": largest["bytes"],
        "pixels_tolerance": tolerance["pixels"],
        "bytes_tolerance": tolerance["bytes"],
        "tensorflow_version": tf.__version__,
        "failures": failures,
    }


def _inconsistent(name: str, output: Outputs, scores: Any, served: list[str]) -> list[str]:
    """Checks the outputs against each other: best class and its probability must be those of the scores."""
    best = int(np.argmax(scores))
    given, probability = output["classes"].numpy()[0].decode(), float(output["probabilities"].numpy()[0])
    if given == served[best] and probability == float(scores[best]):
        return []
    return [f"{name}: class {given} with {probability:.6f}, but the best score is {_best(scores, served)}"]


def _best(scores: Any, classes: list[str]) -> str:
    best = int(np.argmax(scores))
    return f"{classes[best] if best < len(classes) else best} {float(scores[best]):.6f}"


def main(arguments: list[str]) -> int:
    """Prints the result as one JSON line; returns the exit status."""
    if arguments == ["-"]:
        arguments = [sys.stdin.readline().rstrip("\n")]
    export_dir = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    result = check(export_dir)
    print(json.dumps(result))
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # taking TensorFlow down in order takes most of a second, and nothing depends on it
