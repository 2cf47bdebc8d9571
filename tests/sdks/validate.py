"""Says what the libraries of Vertex AI and Azure ML find wrong with a specification; run by the Python of their venv.

One request a line on stdin, `{"service": "vertex", "text": "..."}`; one answer a line on stdout, a JSON string: the
refusal, or "" where the specification is taken. A program that stays, because the libraries take seconds to import.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def vertex(text: str) -> None:
    """Reads a CustomJobSpec as the client does: unknown fields, values of an enum and types are refused."""
    import yaml
    from google.cloud.aiplatform_v1.types import CustomJobSpec
    from google.protobuf import json_format

    tree = yaml.safe_load(text)
    refuse_underscores(tree)
    json_format.ParseDict(tree, CustomJobSpec.pb(CustomJobSpec()))


def refuse_underscores(tree: Any) -> None:
    """The one rule of `gcloud ai custom-jobs create --config` that the library does not have."""
    if isinstance(tree, list):
        for item in tree:
            refuse_underscores(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if "_" in key:
                raise ValueError(f"keys with an underscore are invalid: {key}")
            refuse_underscores(value)


def azureml(text: str) -> None:
    """Reads a job as `az ml job create --file` does, and makes the request of it."""
    from azure.ai.ml import load_job

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(text, encoding="utf-8")
        load_job(path)._to_rest_object()


def main() -> None:
    # The libraries warn on stdout.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            {"vertex": vertex, "azureml": azureml}[request["service"]](request["text"])
            refusal = ""
        except Exception as error:
            refusal = f"{type(error).__name__}: {error}"
        print(json.dumps(refusal), file=answers, flush=True)


if __name__ == "__main__":
    main()
