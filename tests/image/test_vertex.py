"""The image as a Vertex AI training pipeline starts it: variables instead of arguments, a managed dataset, gs:// alone.

Source: those of `job/platforms/vertex.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from job import config
from job.render.vertex import Options, render
from job.storage import Store
from tests.image.containers import TINY, Podman
from tests.unit.managed import places

SPLITS = {"training": range(8), "validation": range(8, 10), "test": range(10, 12)}
"""Images of each class."""


def _export(parts: Path, runs: Store) -> dict[str, str]:
    """Writes a managed dataset as the pipeline exports it; returns its variables."""
    classes = [folder for folder in sorted(parts.iterdir()) if folder.is_dir()]
    for split, numbers in SPLITS.items():
        lines = [
            {
                "imageGcsUri": f"gs://photos/parts/{folder.name}/{sorted(folder.iterdir())[number].name}",
                "classificationAnnotation": {"displayName": folder.name},
            }
            for folder in classes
            for number in numbers
        ]
        content = "\n".join(map(json.dumps, lines)).encode()
        runs.write(f"managed/{split}-00000-of-00001.jsonl", content)
    uris = {f"AIP_{split.upper()}_DATA_URI": f"gs://runs/managed/{split}-*" for split in SPLITS}
    return {"AIP_DATA_FORMAT": "jsonl", **uris}


def test_a_pipeline_with_a_managed_dataset_leaves_run_model_and_logs_where_it_looks(
    podman: Podman, image: str, connected: tuple[str, ...], parts: Path, runs: Store
) -> None:
    given = config.load(
        overrides=(*TINY, "train.preset=fast"), values={"data.uri": "gs://data", "output": "gs://runs/vertex"}
    )
    spec = yaml.safe_load(render(given, Options(image="r/finetune-job:0.1.0")))
    (command, *rest), variables = places.vertex(spec)
    # The pipeline says where the data is.
    at = rest.index("data.uri=gs://data")
    arguments = [command, *rest[: at - 1], *rest[at + 1 :]]
    flags = [f"--env={name}={value}" for name, value in (variables | _export(parts, runs)).items()]
    done = podman.run(image, *arguments, flags=(*connected, *flags))
    assert done.code == 0, done.stderr
    names = {info.name.removeprefix("vertex/") for info in runs.list("vertex/")}
    assert {"report.json", "export/1/saved_model.pb", "model/saved_model.pb"} <= names
    assert any(name.startswith("logs/events") for name in names)
    report = json.loads(runs.read("vertex/report.json"))
    # The splits are the dataset's own.
    assert report["data"]["num_images"] == 12 * 5
    assert report["data"]["counts"]["test"] == [len(SPLITS["test"])] * 5
