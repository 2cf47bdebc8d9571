"""The model card: what the model is for, what it was made from, how good it is, how to use it.

Front matter as the Hugging Face Hub reads it, so that a folder pushed there shows the metrics.
Source: Mitchell et al., Model Cards for Model Reporting, 2019; huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from typing import Any

import yaml

from job.evaluation.report import RunReport

SNIPPET = """\
import tensorflow as tf
model = tf.saved_model.load("{model_dir}")
classify = model.signatures["serving_default"]
image = tf.io.read_file("{image_path}")
result = classify(image_bytes=tf.expand_dims(image, 0))
print(result["classes"][0].numpy().decode(), float(result["probabilities"][0]))
"""


def snippet(model_dir: str = "export/1", image_path: str = "photo.jpg") -> str:
    """Returns the six lines that load the model and classify one image file."""
    return SNIPPET.format(model_dir=model_dir, image_path=image_path)


def model_card(report: RunReport, *, backbone: str, geometry_text: str) -> str:
    """Returns `model_card.md`.

    Args:
        report: Of the finished run.
        backbone: Its name, such as "mobilenet_v2", with where its weights come from.
        geometry_text: How images become the model's input: "squashed to 160 x 160 pixels".
    """
    front = yaml.safe_dump(_front_matter(report), sort_keys=False, allow_unicode=True, width=120)
    counts = {split: sum(numbers) for split, numbers in report.data.counts.items()}
    used = ", ".join(f"{number} {split}" for split, number in counts.items())
    names = ", ".join(report.data.classes[:100]) + (" …" if len(report.data.classes) > 100 else "")
    parts = [
        f"---\n{front}---",
        f"# {report.run.name}",
        f"An image classifier of {len(report.data.classes)} classes: {names}. Backbone {backbone}; "
        f"the {report.choice.name} model won on validation.",
        "## Intended use",
        "Sorting photographs like those it was trained on into the classes above. Every image gets one of these "
        "classes: there is no class for anything else, so give the model only images that show one of them, or set "
        "a threshold on the probability that you have tested on images that show none.",
        "## Use",
        "Encoded images (JPEG, PNG, WebP, GIF, BMP) go in; the preprocessing is inside the model. "
        f"Images are turned upright by EXIF and {geometry_text}; a JPEG of at least twice the size that is stored is "
        "first halved, once or more, while it is decoded.",
        f"```python\n{snippet().rstrip()}\n```",
        '`result["scores"]` holds the probabilities of all classes, in the order of `assets.extra/labels.txt`. '
        "The signature `pixels` takes float32 [B, H, W, 3] RGB, 0..255, already at the model's size.",
        "## Data",
        f"{report.run.data_uri}: {used} images used, {report.data.num_bad} not used, "
        f"{report.data.num_duplicates} exact duplicates.",
        "## Results",
        _results(report),
        "## Limits",
        _limits(report),
        "## Proof",
        _proof(report),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(report: RunReport) -> dict[str, Any]:
    matter: dict[str, Any] = {
        "library_name": "tensorflow",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "tensorflow", "keras", "savedmodel", "transfer-learning"],
    }
    if report.test is not None:
        scores = report.test.scores
        values = {"accuracy": scores.accuracy, "f1": scores.macro_f1}
        matter["metrics"] = list(values)
        matter["model-index"] = [
            {
                "name": report.run.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": report.run.data_uri, "type": "imagefolder", "split": "test"},
                        "metrics": [{"type": kind, "value": round(value, 4)} for kind, value in values.items()],
                    }
                ],
            }
        ]
    return matter


def _results(report: RunReport) -> str:
    if report.test is None:
        return "No test images were set aside; the validation results chose the model and flatter it."
    scores, intervals = report.test.scores, report.test.intervals
    values = [
        ("accuracy", scores.accuracy, "accuracy"),
        (f"top-{scores.k} accuracy", scores.top_k_accuracy, "top_k_accuracy"),
        ("macro F1", scores.macro_f1, "macro_f1"),
        ("log loss", scores.log_loss, "log_loss"),
        ("expected calibration error", scores.ece, ""),
    ]
    rows = ["| metric | value | 95 % interval |", "| --- | --- | --- |"]
    for label, value, key in values:
        interval = f"{intervals[key][0]:.4f} to {intervals[key][1]:.4f}" if key in intervals else ""
        rows.append(f"| {label} | {value:.4f} | {interval} |")
    return f"On {scores.num_images} test images that were used for nothing else:\n\n" + "\n".join(rows)


def _limits(report: RunReport) -> str:
    lines = [
        "Measured on images from the same source as the training images; other cameras, light or places can be worse.",
        "The licence of the training images and of the pretrained weights decides what the model may be used for; "
        "neither is known to this job.",
    ]
    if report.test is not None:
        pairs = zip(report.data.classes, report.test.scores.per_class, strict=True)
        weak = sorted(((one.recall, name, one.support) for name, one in pairs if one.support), key=lambda row: row[0])
        shown = ", ".join(f"{name} ({recall:.2f} of {support})" for recall, name, support in weak[:3])
        lines.append(f"The classes found least often (recall, test images): {shown}.")
    return "\n".join(f"- {line}" for line in lines)


def _proof(report: RunReport) -> str:
    if report.proof is None:
        return "The exported model was not proven."
    return (
        f"A fresh process with nothing but TensorFlow loaded the model and gave the evaluated probabilities for "
        f"{report.proof['num_examples']} original files (largest difference {report.proof['bytes_difference']:.2g}). "
        "Repeat it: `python -I export/1/assets.extra/prove.py`."
    )
