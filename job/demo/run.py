"""`finetune demo`: the whole job on this machine, from and to a bucket, and what transfer bought.

Nothing is downloaded: the object store runs in this process on a loopback port, the images are drawn, the backbone's
weights ship with the package (`scripts/pretrain-demo-backbone` made them on another drawn task).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from job import config as configs
from job import serving
from job.config import Config
from job.console import Console, TerminalConsole
from job.demo import images
from job.demo.object_store import ObjectStore
from job.interruption import Stop
from job.platforms import Platform
from job.run import run as run_job
from job.stages import measure, prepare, train
from job.stages.together import Machines
from job.storage import at, transfer
from job.versions import versions
from job.workspace import Workspace

BUCKET = "gs://finetune-demo"
PER_CLASS = 72
SEED = 0
WEIGHTS_PATH = Path(__file__).with_name("backbone.weights.h5")

_SETTINGS = (
    "model.backbone=mobilenet_025",
    "data.image_px=96",
    "train.strategy=mirrored",
    "train.replicas=2",
    # More test images than usual, so that the comparison says something.
    "data.split.train=0.7",
    "data.split.test=0.2",
    # A backbone this small gains more from more of its blocks, twice the epochs and a higher rate.
    "train.finetune.unfreeze=0.7",
    "train.finetune.epochs=20",
    "train.finetune.patience=20",
    "train.finetune.learning_rate=0.003",
)
_FROM_RANDOM = (
    "model.weights=none",
    # Without pretraining nothing is worth freezing: all layers and BatchNorm train, on as many images.
    "train.finetune.unfreeze=1",
    "train.finetune.batchnorm=trained",
    "train.finetune.layer_decay=1",
    "train.finetune.views=0",
)


def run(folder: Path | None, stop: Stop) -> None:
    """Runs the demo and leaves everything that was in the bucket in `folder` (default: ./runs/demo)."""
    folder = folder or Path("runs") / "demo"
    console = TerminalConsole(sys.stdout)
    started_s = time.monotonic()
    with ObjectStore() as store, tempfile.TemporaryDirectory() as scratch:
        os.environ["STORAGE_EMULATOR_HOST"] = store.url
        store.make_bucket(BUCKET.removeprefix("gs://"))
        console.info(f"An object store runs at {store.url}; its bucket is {BUCKET}.")
        _upload_images(Path(scratch), console)

        console.info("\nFine-tuning a pretrained backbone with MirroredStrategy on two virtual devices.")
        settings = (f"work_dir={scratch}/work", *_SETTINGS)
        config = _config("transfer", *settings, f"model.weights={WEIGHTS_PATH}")
        report = run_job(config, Platform("laptop"), console, stop)

        console.info("\nThree images that it has never seen:")
        serving.predict(f"{BUCKET}/runs/transfer", [f"{BUCKET}/new"], output=None, top=3)

        console.info("\nThe same number of images seen, from random weights.")
        random_accuracy = _test_accuracy(_config("random-weights", *settings, *_FROM_RANDOM), console, stop)
        transfer.pull(at(BUCKET), folder)
    accuracy = report["test"]["scores"]["accuracy"]
    console.info(
        f"\nWhat transfer bought: test accuracy {accuracy:.3f} from pretrained weights, {random_accuracy:.3f} from "
        f"random ones.\n\nDone in {time.monotonic() - started_s:.0f} s. The bucket's content is now in {folder}:\n"
        f"  report   {folder}/runs/transfer/report/index.html\n"
        f"  model    {folder}/runs/transfer/export/1 (a SavedModel)\n"
        f"  images   {folder}/runs/transfer/dataset.csv (five of the files are odd: see their notes)\n"
        f"  curves   tensorboard --logdir {folder}/runs"
    )


def _upload_images(scratch: Path, console: Console) -> None:
    images.write_dataset(scratch / "bucket" / "parts", per_class=PER_CLASS, seed=SEED)
    images.write_new_images(scratch / "bucket" / "new")
    pushed = transfer.push(scratch / "bucket", at(BUCKET))
    console.info(f"{pushed.num_objects} drawn images of parts, {len(images.CLASSES)} kinds of defect, are in {BUCKET}.")


def _config(name: str, *settings: str) -> Config:
    return configs.load(None, [f"data.uri={BUCKET}/parts", f"output={BUCKET}/runs/{name}", *settings])


def _test_accuracy(config: Config, console: Console, stop: Stop) -> float:
    """Returns the test accuracy of a training of which nothing is exported."""
    workspace = Workspace.open(config, Platform("laptop"), console, stop)
    workspace.begin(versions())
    dataset = prepare.dataset(workspace)
    trainer = train.trainer(workspace, Machines(workspace), dataset)
    choice = measure.winner(workspace, dataset, trainer, trainer.run())
    measured = measure.on_test_split(workspace, dataset, trainer, choice)
    assert measured.result is not None
    transfer.push(workspace.logs_dir, workspace.output, prefix="logs")
    return measured.result.scores.accuracy
