"""What every platform says in its own words, in one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Name = Literal["laptop", "kubernetes", "vertex", "sagemaker", "azureml"]

DEFAULT_GRACE_S = 25.0
"""Of the 30 s that Kubernetes gives by default (terminationGracePeriodSeconds)."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What was recognised.

    Attributes:
        data_uri: Where it puts the training data; None where it says nothing.
        data_layout: How that data is laid out, as `data.layout`.
        output_uri: Where a run's folder belongs: the one place that outlives a machine that is taken away.
        model_uri: Where it wants the SavedModel alone; None where nowhere but in the run's folder.
        logs_uri: Where it looks for TensorBoard logs; likewise.
        grace_s: Seconds from SIGTERM to the kill, less a margin.
        overrides: Settings that it passes on, `a.b=c` each; the command line wins over them.
        tf_config: The machines that train together, as TF_CONFIG says it; None where it does not name several.
        reasons: Why it names none: "data" or "output" → a sentence for the error.
        notes: What the user should know of it, a sentence each.
        found_in: "platform", "data", … → the variables or files that say so.
    """

    name: Name
    data_uri: str | None = None
    data_layout: Literal["auto", "jsonl"] = "auto"
    output_uri: str | None = None
    model_uri: str | None = None
    logs_uri: str | None = None
    grace_s: float = DEFAULT_GRACE_S
    overrides: tuple[str, ...] = ()
    tf_config: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    found_in: Mapping[str, str] = field(default_factory=dict)

    def without_mount(self, uri: str) -> str:
        """Returns `gs://bucket/…` for `/gcs/bucket/…` on Vertex AI, other URIs as they are.

        The mount has no atomic rename and no preconditions, which the run's lease needs.
        Source: cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system, "Limitations".
        """
        return f"gs://{uri.removeprefix('/gcs/')}" if self.name == "vertex" and uri.startswith("/gcs/") else uri
