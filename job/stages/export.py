"""From the winner to a proven SavedModel in the run's local folder; what is there already is not made again.

`export/made.json` is the marker: it names what the model was made of and, once it is proven, what the proof found. It
is pushed last, so a run that goes on elsewhere takes an export from the output that is whole.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from job import rundir
from job.dataset.decode import serves_alike
from job.dataset.example import Split
from job.dataset.prepare import Dataset
from job.errors import StoreAwayError
from job.evaluation.calibration import log_probabilities
from job.evaluation.winner import Choice
from job.export import proof, saved_model
from job.export.saved_model import Geometry
from job.masking import masked
from job.storage import disk, transfer
from job.training.study import Study
from job.versions import versions
from job.workspace import Workspace

NUM_GOLDEN = 16
"""Images of the proof: they ship with the model, so their number is bounded."""

MARKER = "made.json"


def proven(workspace: Workspace, dataset: Dataset, trainer: Study, choice: Choice) -> proof.Proof:
    """Exports the winner, and returns what a fresh process found when it compared that with the evaluated model."""
    with proof.fresh_process() as process:
        exported = _model(workspace, dataset, trainer, choice)
        return _proof(process, workspace, dataset, trainer, exported, choice)


def _model(workspace: Workspace, dataset: Dataset, trainer: Study, choice: Choice) -> Path:
    """Returns the folder of the winner's SavedModel."""
    path = workspace.folder / rundir.EXPORT / rundir.EXPORT_VERSION
    with workspace.timings.stage("export"), workspace.bar("export", unit="images"):
        data = workspace.config.data
        image_px = trainer.views.image_px
        geometry = Geometry(data.fit, data.stored_px or image_px, image_px)
        made_of = _made_of(dataset, trainer, choice, geometry)
        with suppress(StoreAwayError):  # it is made here: that takes less than waiting
            _fetch(workspace, made_of)
        if _marked(workspace).get("of") != made_of:
            _marker(workspace).unlink(missing_ok=True)
            saved_model.write(
                trainer.model, classes=dataset.classes, temperature=choice.temperature, geometry=geometry, to=path
            )
            _mark(workspace, {"of": made_of})
    workspace.stop.check("export")
    return path


def _proof(
    process: subprocess.Popen[str],
    workspace: Workspace,
    dataset: Dataset,
    trainer: Study,
    exported: Path,
    choice: Choice,
) -> proof.Proof:
    marked = _marked(workspace)
    if "proof" not in marked:
        golden = golden_examples(dataset)
        with workspace.timings.stage("prove", num_images=len(golden)), workspace.bar("prove", unit="images"):
            logits = trainer.logits(golden)
            found = proof.prove(
                process,
                exported,
                examples=[(masked(dataset.rows[int(index)].uri), dataset.encoded(int(index))) for index in golden],
                expected_scores=np.exp(log_probabilities(logits / choice.temperature)),
                pixels=np.asarray(trainer.views.plain(dataset.pixels.gather(golden))).astype(np.uint8),
                tolerance=proof.tolerance_for(trainer.compute_dtype, on_gpu=trainer.distribution.has_gpu),
                classes=dataset.classes,
            )
        marked = {**marked, "proof": found.to_dict()}
        _mark(workspace, marked)
    found = proof.Proof(**marked["proof"])
    workspace.console.info(
        f"Proven: a fresh process gives the same on {found.num_examples} original files (largest difference of a "
        f"probability {found.bytes_difference:.1e}).",
        difference=found.bytes_difference,
    )
    workspace.stop.check("prove")
    return found


def golden_examples(dataset: Dataset) -> np.ndarray:
    """Returns rows int64 [M] of the proof, from the test split where there is one, over all classes in turn.

    Left out: the few files that TensorFlow is known to decode to other pixels, each noted in `dataset.csv`.
    """
    for split in (Split.TEST, Split.VALIDATION):
        rows = [row for row in (dataset.rows[int(i)] for i in dataset.indices(split)) if serves_alike(row.notes)]
        if rows:
            break
    nth: Counter[str] = Counter()
    turns = []
    for row in rows:
        turns.append((nth[row.label], row.label, row.index))
        nth[row.label] += 1
    return np.array([index for _, _, index in sorted(turns)[:NUM_GOLDEN]], np.int64)


def _made_of(dataset: Dataset, trainer: Study, choice: Choice, geometry: Geometry) -> str:
    """Returns a digest of everything that the export depends on."""
    facts = [dataset.classes, choice.temperature, geometry.to_dict(), trainer.policy, versions()]
    found = hashlib.sha256(json.dumps(facts).encode())
    for variable in trainer.model.variables:
        found.update(variable.numpy().tobytes())
    return found.hexdigest()


def _fetch(workspace: Workspace, made_of: str) -> None:
    """Takes the export from the output, where one of the same things is there and not here."""
    name = f"{rundir.EXPORT}/{MARKER}"
    if _marked(workspace).get("of") == made_of or workspace.output.stat(name) is None:
        return
    if json.loads(workspace.output.read(name)).get("of") == made_of:
        names = [info.name for info in workspace.output.list(f"{rundir.EXPORT}/") if info.name != name]
        transfer.pull(workspace.output, workspace.folder, names=names)
        transfer.pull(workspace.output, workspace.folder, names=[name])


def _marker(workspace: Workspace) -> Path:
    return workspace.folder / rundir.EXPORT / MARKER


def _marked(workspace: Workspace) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_marker(workspace).read_text())
        return found
    except (FileNotFoundError, ValueError):
        return {}


def _mark(workspace: Workspace, facts: dict[str, Any]) -> None:
    disk.write_durably(_marker(workspace), json.dumps(facts).encode())
