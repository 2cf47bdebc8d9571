"""`finetune render`: a run's specification for the place where it runs, on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from job.render import managed_commands

render_app = typer.Typer(
    help="Print a run's specification for a cluster or a managed service.", no_args_is_help=True, rich_markup_mode=None
)


@render_app.command(
    epilog="\b\nExamples:\n"
    "  finetune render kubernetes config.yaml --image REGISTRY/finetune-job:0.1.0 --gpus 1 | kubectl apply -f -\n"
    "  finetune render kubernetes config.yaml --image REGISTRY/finetune-job:0.1.0 --gpus 4 --nodes 2 --spot"
)
def kubernetes(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", readable=False, help="Settings, see `finetune config`.")
    ],
    image: Annotated[str, typer.Option(metavar="IMAGE", help="The job's image, with its tag or digest.")],
    data: Annotated[str | None, typer.Option(metavar="URI", help="Labelled images.", show_default=False)] = None,
    output: Annotated[str | None, typer.Option(metavar="URI", help="Folder of the run.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change one setting; may be repeated.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, max=16, metavar="N", help="NVIDIA GPUs a machine.")] = 0,
    nodes: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Machines that train together.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On machines that can be taken away.")] = False,
    cloud: Annotated[str, typer.Option(metavar="gke|eks|aks", help="Whose spot machines.")] = "gke",
    node_selector: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label a node must have; may be repeated.")
    ] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="A queue of Kueue.", show_default=False)] = None,
    claim: Annotated[
        str | None, typer.Option(metavar="NAME", help="A PersistentVolumeClaim for /scratch.", show_default=False)
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(metavar="NAME", help="Mount a gs:// bucket at /bucket (GKE).", show_default=False)
    ] = None,
    google_account: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="Google service account to act as (GKE).", show_default=False)
    ] = None,
    jobset: Annotated[bool, typer.Option("--jobset", help="Several machines as a JobSet.")] = False,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the Job.", show_default="from the run's output")
    ] = None,
) -> None:
    """Print one file for `kubectl apply -f -`: ConfigMap, ServiceAccount, Job and what else the run needs."""
    from job import config as configs
    from job.errors import UsageError
    from job.render.kubernetes import Cloud, Options, render

    if cloud not in get_args(Cloud):
        raise UsageError(
            f"--cloud is {cloud!r}, allowed are {', '.join(get_args(Cloud))}.", next_step="Give one of these."
        )
    given = {"data.uri": data, "output": output}
    settings = configs.load(config, overrides or (), values={key: uri for key, uri in given.items() if uri is not None})
    options = Options(
        image=image,
        gpus=gpus,
        nodes=nodes,
        spot=spot,
        cloud=cloud,  # type: ignore[arg-type]  # checked above; Typer knows no Literal in its older versions
        node_labels=tuple(node_selector or ()),
        queue=queue,
        claim=claim,
        bucket=bucket,
        google_account=google_account,
        jobset=jobset,
        namespace=namespace,
        name=name,
    )
    print(render(settings, options), end="")


render_app.registered_commands += managed_commands.app.registered_commands
