"""How far the training is: what a checkpoint holds beside the weights of the moment.

Arrays go to an .npz file without pickle, everything else to JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[int, np.ndarray]
"""Position in `model.variables` → value; only what differs from the pretrained model."""

_JSON = "progress.json"
_ARRAYS = "progress.npz"


@dataclass
class Trained:
    """A model that could be shipped: the best moment of a phase.

    Attributes:
        step: Of the phase, at which it was best.
        val_logits: float32 [M, K] on the validation split.
    """

    name: str
    step: int
    weights: Weights
    val_logits: np.ndarray


@dataclass
class Progress:
    """Where the training stands.

    Attributes:
        finished: The phases that are done, the probe first.
        phase: The phase under way; "" between two.
        step: Steps of that phase done.
        total_steps: Steps of all phases done: the x-axis of TensorBoard and the checkpoint's name.
        best: The best moment of the phase under way.
        best_loss: Its calibrated log loss on validation.
        num_steps: Phase → steps it ran, for the report.
        retries: Phase → times it diverged and began again at half the learning rate.
    """

    finished: list[Trained] = field(default_factory=list)
    phase: str = ""
    step: int = 0
    total_steps: int = 0
    best: Trained | None = None
    best_loss: float = float("inf")
    num_steps: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its checkpoint; sorts by age.

        The number of finished phases tells the end of a phase from its last step, that of retries a phase that goes
        on at a lower learning rate from the one that diverged.
        """
        return f"{self.total_steps:08d}-{len(self.finished)}-{sum(self.retries.values())}"

    def snapshot(self) -> Progress:
        """Returns the progress of this moment, which later steps do not change."""
        return replace(self, finished=list(self.finished), num_steps=dict(self.num_steps), retries=dict(self.retries))

    def has(self, phase: str) -> bool:
        return any(trained.name == phase for trained in self.finished)

    def begin(self, phase: str) -> None:
        """Starts a phase, or goes on with it where it is already under way."""
        if self.phase != phase:
            self.phase, self.step, self.best, self.best_loss = phase, 0, None, float("inf")

    def end(self) -> None:
        """Moves the best moment of the phase to the finished ones."""
        assert self.best is not None
        self.num_steps[self.phase] = self.step
        self.finished.append(self.best)
        self.phase, self.step, self.best, self.best_loss = "", 0, None, float("inf")

    def save(self, folder: Path) -> None:
        named = {f"finished/{number}": trained for number, trained in enumerate(self.finished)}
        if self.best:
            named["best"] = self.best
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, Any] = {}
        for key, trained in named.items():
            facts[key] = {"name": trained.name, "step": trained.step}
            arrays[f"{key}/val_logits"] = trained.val_logits
            arrays |= {f"{key}/weights/{position}": value for position, value in trained.weights.items()}
        np.savez(folder / _ARRAYS, allow_pickle=False, **arrays)
        state = {
            "phase": self.phase,
            "step": self.step,
            "total_steps": self.total_steps,
            "best_loss": self.best_loss if self.best else None,
            "num_steps": self.num_steps,
            "retries": self.retries,
            "trained": facts,
        }
        (folder / _JSON).write_text(json.dumps(state, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Progress:
        state = json.loads((folder / _JSON).read_text())
        trained: dict[str, Trained] = {}
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            for key, facts in state["trained"].items():
                prefix = f"{key}/weights/"
                weights = {int(name[len(prefix) :]): arrays[name] for name in arrays.files if name.startswith(prefix)}
                trained[key] = Trained(facts["name"], facts["step"], weights, arrays[f"{key}/val_logits"])
        finished = [trained[f"finished/{number}"] for number in range(len(trained) - ("best" in trained))]
        best_loss = state["best_loss"] if state["best_loss"] is not None else float("inf")
        return cls(
            finished=finished,
            phase=state["phase"],
            step=state["step"],
            total_steps=state["total_steps"],
            best=trained.get("best"),
            best_loss=best_loss,
            num_steps=state["num_steps"],
            retries=state["retries"],
        )
