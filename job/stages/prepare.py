"""From `data.uri` to a dataset on local disk: pulled, surveyed, split, packed."""

from __future__ import annotations

from pathlib import Path

from job import rundir
from job.dataset import prepare
from job.dataset.prepare import Dataset
from job.dataset.remote import Remote
from job.dataset.shares import Share
from job.stages import backbone, pull, pull_share
from job.workspace import Workspace


def dataset(workspace: Workspace, share: Share | None = None) -> Dataset:
    """Returns the dataset; the chief publishes `dataset.csv`.

    Backbone and weights are looked at first: a wrong name should cost seconds.

    Args:
        share: This machine's part, where several prepare the data.
    """
    backbone.resolve(workspace)
    backbone.pretrained(workspace)
    remote = None
    if share is None:
        path = pull.dataset(workspace)
    else:
        path, share, remote = pull_share.dataset(workspace, share)
    found = survey(workspace, path, share=share, remote=remote)
    found.write_csv(workspace.folder / rundir.DATASET)
    if workspace.cluster.is_chief:
        workspace.output.upload(workspace.folder / rundir.DATASET, rundir.DATASET)
    return found


def survey(
    workspace: Workspace,
    local_path: Path,
    *,
    pack: bool = True,
    share: Share | None = None,
    remote: Remote | None = None,
) -> Dataset:
    """Returns the surveyed, split and (unless only its report is wanted) packed dataset."""
    config = workspace.config
    data = config.data
    stored_px = data.stored_px or data.image_px or backbone.resolve(workspace).native_px
    local_images = remote.local_images if remote else pull.named_images(workspace, local_path)
    with workspace.timings.stage("survey"), workspace.bar("survey", unit="images") as bar:
        hook = workspace.watched(bar, "survey")

        def on_progress(what: str, done: int, total: int) -> None:
            if what == "survey":
                hook(done, total)
            if share is not None:
                share.look()

        found = prepare.prepare(
            data,
            dataset_dir=local_path,
            work_dir=workspace.cache_dir,
            stored_px=stored_px,
            seed=config.train.seed,
            on_progress=on_progress,
            pack=pack,
            local_images=local_images,
            share=share,
            remote=remote,
        )
        num_seen = len(found.rows) if share is None else len(share.rows(len(found.rows)))
        hook(num_seen, num_seen)
    workspace.timings.num_images["survey"] = num_seen
    counts = ", ".join(f"{name} {count}" for name, count in found.summary.splits.items())
    workspace.console.info(
        f"{found.summary.num_images} images in {len(found.classes)} classes ({counts}); {found.summary.split_note}",
        images=found.summary.num_images,
        bad=found.summary.num_bad,
    )
    if found.summary.num_bad:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.summary.verdicts.items())
        workspace.console.warn(f"{found.summary.num_bad} images are not used ({verdicts}); dataset.csv names them.")
    for warning in found.summary.warnings:
        workspace.console.warn(warning)
    return found
