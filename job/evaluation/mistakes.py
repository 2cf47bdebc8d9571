"""The images the model is most wrong about: often wrong labels, so worth a person's look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from job.evaluation.calibration import log_probabilities


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image whose best class is not its label.

    Attributes:
        index: Position among the images scored.
        uri: Names the image.
        true: The label's class name.
        predicted: The best class's name.
        probability: Of the predicted class, 0..1, calibrated.
        true_probability: Of the label's class, 0..1, calibrated.
    """

    index: int
    uri: str
    true: str
    predicted: str
    probability: float
    true_probability: float

    def caption(self) -> tuple[str, str]:
        """Returns two short lines: the file, and true → predicted with its probability."""
        return self.uri.rsplit("/", 1)[-1], f"{self.true} → {self.predicted} {self.probability:.0%}"


def worst(
    logits: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    uris: Sequence[str],
    classes: Sequence[str],
    *,
    limit: int,
    temperature: float = 1.0,
) -> tuple[Mistake, ...]:
    """Returns at most `limit` wrong images, the largest log loss first.

    Args:
        logits: float32 [N, K].
        labels: int32 [N].
        uris: N names.
        classes: K names, in label order.
        limit: At least 0.
        temperature: Logits are divided by it first, above 0.
    """
    logs = log_probabilities(np.asarray(logits, np.float64) / temperature)
    predicted = np.argmax(logs, axis=1)
    own = logs[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(own[wrong], kind="stable")][:limit]
    return tuple(
        Mistake(
            index=int(i),
            uri=uris[i],
            true=classes[labels[i]],
            predicted=classes[predicted[i]],
            probability=float(np.exp(logs[i, predicted[i]])),
            true_probability=float(np.exp(own[i])),
        )
        for i in order
    )
