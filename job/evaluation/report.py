"""What a run found out, as one typed object, and `report.json` made from it.

`report.json` is written last of all: its existence is the run's done marker. Its schema has a version; within
one version keys are only added. `pages.py` makes the same content readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np

from job.evaluation.metrics import Scores
from job.evaluation.mistakes import Mistake
from job.evaluation.winner import Choice

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Which run this is.

    Attributes:
        name: The last part of the output, for headings.
        output_uri: The run's folder.
        data_uri: The dataset.
        seed: Of everything random.
        versions: Of finetune-job, tensorflow, keras, numpy, python; and the image digest, where known.
        devices: What it ran on, such as "2 x NVIDIA L4" or "CPU".
    """

    name: str
    output_uri: str
    data_uri: str
    seed: int
    versions: Mapping[str, str]
    devices: str = ""


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that was not used: its name, verdict ("corrupt") and reason."""

    uri: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What the survey found.

    Attributes:
        classes: K names, in label order.
        counts: Split -> images of each class, in label order. Used images only.
        num_images: Found, used or not.
        num_bad: Not used.
        bad_by_verdict: Verdict -> images.
        bad: Names of the first of them.
        num_duplicates: Images whose bytes occur earlier in the dataset; near-duplicates are among the notes.
        notes: Lines about what was found and repaired: "12 images rotated by EXIF".
    """

    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    num_images: int
    num_bad: int = 0
    bad_by_verdict: Mapping[str, int] = field(default_factory=dict)
    bad: Sequence[BadImage] = ()
    num_duplicates: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """How long a stage took. `num_images` counts images handled with repetition; 0 where it handles none."""

    name: str
    seconds: float
    num_images: int = 0

    @property
    def images_per_second(self) -> float | None:
        return self.num_images / self.seconds if self.num_images and self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class TestResult:
    """The winner on the test split, which nothing else has touched.

    Attributes:
        scores: At the fitted temperature.
        intervals: Of `metrics.confidence_intervals`, 95 %.
        temperature: Fitted on validation.
        ece_before: ECE at temperature 1; `scores.ece` is the one after.
        log_loss_before: Log loss at temperature 1, nats.
    """

    __test__ = False  # pytest would take the class for a test

    scores: Scores
    intervals: Mapping[str, tuple[float, float]]
    temperature: float
    ece_before: float
    log_loss_before: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything the report says.

    Attributes:
        recipe: The resolved recipe, one line a decision, as shown before training.
        choice: Why the winner won.
        test: None where the data has no test images.
        mistakes: The worst on the test split.
        stages: In time order.
        proof: `Proof.to_dict()`, or None where nothing was exported.
        export_uri: Of the SavedModel.
        required_accuracy: Of `require.accuracy`, or None.
    """

    run: RunFacts
    data: DataSummary
    recipe: Sequence[str]
    choice: Choice
    test: TestResult | None
    mistakes: Sequence[Mistake]
    stages: Sequence[Stage]
    proof: Mapping[str, Any] | None
    export_uri: str
    required_accuracy: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the test accuracy reaches what `require.accuracy` asks for; True where it asks for nothing."""
        if self.required_accuracy is None:
            return True
        return self.test is not None and self.test.scores.accuracy >= self.required_accuracy


def to_json(report: RunReport) -> dict[str, Any]:
    """Returns `report.json`: plain lists, numbers and strings only, keys in reading order.

    Top level: schema, accepted, run, data, recipe, winner {name, reason, temperature, standings, steps},
    test {scores, intervals, temperature, ece_before, log_loss_before} or null, mistakes,
    stages [{name, seconds, num_images, images_per_second}], proof, export_uri, required_accuracy.
    """
    choice = _plain(report.choice)
    return {
        "schema": SCHEMA,
        "accepted": report.is_accepted,
        "run": _plain(report.run),
        "data": _plain(report.data),
        "recipe": list(report.recipe),
        "winner": {key: choice[key] for key in ("name", "reason", "temperature", "standings", "steps")},
        "test": _plain(report.test),
        "mistakes": _plain(report.mistakes),
        "stages": [_plain(one) | {"images_per_second": one.images_per_second} for one in report.stages],
        "proof": _plain(report.proof),
        "export_uri": report.export_uri,
        "required_accuracy": report.required_accuracy,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Scores):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
