"""The name of everything in a run's folder, local and remote (DESIGN: section 4).

The local folder of a run has the same names as its output, so that publishing is copying.
"""

from __future__ import annotations

CONFIG = "config.yaml"
LEASE = "lease.json"
STATUS = "status.json"
DATASET = "dataset.csv"
WEIGHTS = "weights.json"
"""SHA-256 by URI of the files that the model was built from."""
BATCH = "batch.json"
"""The global batch that `train.batch: auto` found, and what was tried."""
CHECKPOINTS = "checkpoints"
LOGS = "logs"
EXPORT = "export"
REPORT_FOLDER = "report"
REPORT_TEXT = "report.md"
CARD = "model_card.md"
DONE = "report.json"
"""Written last: where it exists the run is finished."""

EXPORT_VERSION = "1"
"""TensorFlow Serving looks for numbered folders below the model's own."""
