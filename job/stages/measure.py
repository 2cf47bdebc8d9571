"""Which candidate wins, and what it is worth on images that nothing else has touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from job.dataset.example import Split
from job.dataset.prepare import Dataset
from job.evaluation import calibration, metrics, mistakes, plots
from job.evaluation import winner as winners
from job.evaluation.report import TestResult
from job.evaluation.winner import Candidate, Choice
from job.training.progress import Progress
from job.training.study import Study
from job.workspace import Workspace

MAX_MISTAKES = 16


@dataclass(frozen=True)
class Measured:
    """The winner on the test split.

    Attributes:
        indices: int64 [M], rows of the dataset.
        logits: float32 [M, K], uncalibrated.
        result: None where there is no test image.
    """

    indices: np.ndarray
    logits: np.ndarray
    result: TestResult | None
    worst: Sequence[mistakes.Mistake]
    pictures: dict[str, np.ndarray]


def winner(workspace: Workspace, dataset: Dataset, trainer: Study, progress: Progress) -> Choice:
    """Returns which candidate ships, and leaves the trainer's model with its weights."""
    candidates = [Candidate(trained.name, trained.val_logits, rank) for rank, trained in enumerate(progress.finished)]
    choice = winners.choose(
        candidates,
        dataset.labels[dataset.indices(Split.VALIDATION)],
        resamples=workspace.config.evaluate.bootstrap,
        seed=workspace.config.train.seed,
    )
    workspace.console.info(f"Winner: {choice.reason}", winner=choice.name)
    # Processors round differently, and all machines have to measure what the chief ships.
    chosen = int(trainer.distribution.from_chief(str(choice.winner)))
    trainer.apply(progress.finished[chosen].weights)
    return choice


def along(workspace: Workspace, dataset: Dataset, trainer: Study, progress: Progress) -> None:
    """Does this machine's share of what the chief measures on the test split."""
    winner(workspace, dataset, trainer, progress)
    indices = dataset.indices(Split.TEST)
    if len(indices):
        _logits(workspace, trainer, indices)


def _logits(workspace: Workspace, trainer: Study, indices: np.ndarray) -> np.ndarray:
    with workspace.timings.stage("evaluate", num_images=len(indices)), workspace.bar("evaluate", unit="images") as bar:
        return trainer.logits(indices, on_progress=workspace.watched(bar, "evaluate"), together=True)


def on_test_split(workspace: Workspace, dataset: Dataset, trainer: Study, choice: Choice) -> Measured:
    """Returns the winner's scores on the test split, and writes them to TensorBoard."""
    indices = dataset.indices(Split.TEST)
    if not len(indices):
        workspace.console.warn("There are no test images: the report has no test scores.")
        return Measured(indices, np.zeros((0, len(dataset.classes)), np.float32), None, (), {})
    logits = _logits(workspace, trainer, indices)
    labels = dataset.labels[indices]
    settings = workspace.config.evaluate
    scores = metrics.score(logits, labels, top_k=settings.top_k, temperature=choice.temperature)
    raw = metrics.score(logits, labels, top_k=settings.top_k)
    intervals = metrics.confidence_intervals(
        logits / choice.temperature, labels, resamples=settings.bootstrap, seed=workspace.config.train.seed
    )
    result = TestResult(scores, intervals, choice.temperature, raw.ece, raw.log_loss)
    workspace.console.info(
        f"Test: accuracy {scores.accuracy:.4f} on {len(indices)} images (95 % interval "
        f"{intervals['accuracy'][0]:.3f} to {intervals['accuracy'][1]:.3f}), log loss {scores.log_loss:.4f}.",
        accuracy=scores.accuracy,
    )
    uris = [dataset.rows[int(index)].uri for index in indices]
    worst = mistakes.worst(logits, labels, uris, dataset.classes, temperature=choice.temperature, limit=MAX_MISTAKES)
    pictures = _pictures(dataset, indices, logits, labels, choice, result, worst)
    _to_tensorboard(workspace, trainer, dataset, result, pictures)
    return Measured(indices, logits, result, worst, pictures)


def _pictures(
    dataset: Dataset,
    indices: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    choice: Choice,
    result: TestResult,
    worst: Sequence[mistakes.Mistake],
) -> dict[str, np.ndarray]:
    """Returns the report's pictures by name, uint8 [H, W, 3] each."""
    pictures = {
        "confusion": plots.confusion_matrix(result.scores.confusion, dataset.classes),
        "reliability": plots.reliability_diagram(
            calibration.reliability(logits, labels), calibration.reliability(logits / choice.temperature, labels)
        ),
    }
    if worst:
        images = dataset.pixels.gather(indices[[mistake.index for mistake in worst]])
        pictures["mistakes"] = plots.contact_sheet(list(images), [mistake.caption() for mistake in worst])
    return pictures


def _to_tensorboard(
    workspace: Workspace, trainer: Study, dataset: Dataset, result: TestResult, pictures: dict[str, np.ndarray]
) -> None:
    telemetry, scores = trainer.telemetry, result.scores
    for name, picture in pictures.items():
        telemetry.images(f"test/{name}", picture[None])
    figures = {
        "test/accuracy": scores.accuracy,
        f"test/top_{scores.k}_accuracy": scores.top_k_accuracy,
        "test/log_loss": scores.log_loss,
        "test/macro_f1": scores.macro_f1,
        "test/ece": scores.ece,
    }
    rows = ["| class | precision | recall | F1 | images |", "|---|---|---|---|---|"]
    rows += [
        f"| {name} | {one.precision:.3f} | {one.recall:.3f} | {one.f1:.3f} | {one.support} |"
        for name, one in zip(dataset.classes, scores.per_class, strict=True)
    ]
    telemetry.text("test/per_class", "\n".join(rows))
    telemetry.hyperparameters(hyperparameters(trainer), figures)


def hyperparameters(trainer: Study) -> dict[str, Any]:
    """Returns what TensorBoard's HParams page compares runs by."""
    recipe, train = trainer.recipe, trainer.workspace.config.train
    found = {
        "backbone": trainer.backbone.name,
        "image_px": trainer.views.image_px,
        "preset": train.preset,
        "batch": recipe.batch,
        "label_smoothing": recipe.label_smoothing,
        "dropout": recipe.dropout,
        "seed": train.seed,
    }
    for phase in recipe.phases:
        found |= {
            f"{phase.name}.learning_rate": phase.learning_rate,
            f"{phase.name}.steps": phase.num_steps,
            f"{phase.name}.unfreeze": phase.unfreeze,
        }
    return found
