"""`finetune render vertex`, `sagemaker` and `azureml`: what a managed service's own command line takes, on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from job.config import Config

app = typer.Typer()

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG.yaml", readable=False, help="Settings, see `finetune config`.")
]
Image = Annotated[str, typer.Option(metavar="IMAGE", help="The job's image, with its tag or digest.")]
Data = Annotated[str | None, typer.Option(metavar="URI", help="Labelled images.", show_default=False)]
Output = Annotated[str | None, typer.Option(metavar="URI", help="Folder of the run.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change one setting; may be repeated.")
]
Gpus = Annotated[int, typer.Option(min=0, max=16, metavar="N", help="GPUs a machine.")]
Nodes = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Machines that train together.")]
Spot = Annotated[bool, typer.Option("--spot", help="On machines that can be taken away.")]
MachineType = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Another machine than --gpus chooses.", show_default=False)
]
DiskGb = Annotated[int, typer.Option(min=10, metavar="GB", help="Disk of each machine, gigabytes.")]
MaxHours = Annotated[float, typer.Option(min=0.1, metavar="HOURS", help="After which the job is stopped.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Of the job.", show_default="from the run's output")]


def _examples(*lines: str) -> str:
    # \b keeps Click from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@app.command(
    epilog=_examples(
        "finetune render vertex config.yaml --image REGISTRY/finetune-job:0.1.0 --gpus 1 > job.yaml",
        "finetune render vertex config.yaml --image REGISTRY/finetune-job:0.1.0 --gpus 4 --nodes 2 --spot > job.yaml",
    )
)
def vertex(
    config: ConfigFile,
    image: Image,
    data: Data = None,
    output: Output = None,
    overrides: Overrides = None,
    gpus: Gpus = 0,
    nodes: Nodes = 1,
    spot: Spot = False,
    machine_type: MachineType = None,
    accelerator: Annotated[
        str | None, typer.Option(metavar="KIND", help="GPUs of --machine-type: NVIDIA_L4, ...", show_default=False)
    ] = None,
    disk_gb: DiskGb = 100,
    max_hours: MaxHours = 24.0,
    service_account: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="Google service account to act as.", show_default=False)
    ] = None,
    tensorboard: Annotated[
        str | None,
        typer.Option(metavar="RESOURCE", help="projects/P/locations/R/tensorboards/ID.", show_default=False),
    ] = None,
    name: Name = None,
) -> None:
    """Print a CustomJobSpec for `gcloud ai custom-jobs create --config`."""
    from job.render.vertex import Options, render

    options = Options(
        image=image,
        gpus=gpus,
        nodes=nodes,
        spot=spot,
        machine_type=machine_type,
        accelerator=accelerator,
        disk_gb=disk_gb,
        max_hours=max_hours,
        service_account=service_account,
        tensorboard=tensorboard,
        name=name,
    )
    print(render(_settings(config, data, output, overrides), options), end="")


@app.command(
    epilog=_examples(
        "finetune render sagemaker config.yaml --image ECR/finetune-job:0.1.0-sagemaker --role ARN --gpus 1 > job.json",
        "finetune render sagemaker config.yaml --image ECR/finetune-job:0.1.0-sagemaker --role ARN --gpus 1 --spot",
    )
)
def sagemaker(
    config: ConfigFile,
    image: Image,
    role: Annotated[str, typer.Option(metavar="ARN", help="Role to act as: arn:aws:iam::ACCOUNT:role/NAME.")],
    data: Data = None,
    output: Output = None,
    overrides: Overrides = None,
    gpus: Gpus = 0,
    nodes: Nodes = 1,
    spot: Spot = False,
    machine_type: MachineType = None,
    artifacts: Annotated[
        str | None,
        typer.Option(metavar="URI", help="s3:// folder for model.tar.gz.", show_default="beside the run's output"),
    ] = None,
    disk_gb: DiskGb = 100,
    max_hours: MaxHours = 24.0,
    max_wait_hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="With --spot: waiting and training.", show_default="twice --max-hours"),
    ] = None,
    name: Name = None,
) -> None:
    """Print a request for `aws sagemaker create-training-job --cli-input-json`."""
    from job.render.sagemaker import Options, render

    options = Options(
        image=image,
        role=role,
        gpus=gpus,
        nodes=nodes,
        spot=spot,
        machine_type=machine_type,
        artifacts=artifacts,
        disk_gb=disk_gb,
        max_hours=max_hours,
        max_wait_hours=max_wait_hours,
        name=name,
    )
    print(render(_settings(config, data, output, overrides), options), end="")


@app.command(
    epilog=_examples(
        "finetune render azureml config.yaml --image REGISTRY/finetune-job:0.1.0 --datastore photos --gpus 1",
        "finetune render azureml config.yaml --image REGISTRY/finetune-job:0.1.0 --datastore photos --compute gpus",
    )
)
def azureml(
    config: ConfigFile,
    image: Image,
    data: Data = None,
    output: Output = None,
    overrides: Overrides = None,
    gpus: Gpus = 0,
    nodes: Nodes = 1,
    spot: Spot = False,
    machine_type: MachineType = None,
    compute: Annotated[
        str | None, typer.Option(metavar="NAME", help="A compute cluster.", show_default="serverless")
    ] = None,
    datastore: Annotated[
        str | None, typer.Option(metavar="NAME", help="The datastore of az:// URIs.", show_default=False)
    ] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register the model as this.", show_default=False)
    ] = None,
    max_hours: MaxHours = 24.0,
    name: Name = None,
) -> None:
    """Print a command job for `az ml job create --file`."""
    from job.render.azureml import Options, render

    options = Options(
        image=image,
        gpus=gpus,
        nodes=nodes,
        spot=spot,
        machine_type=machine_type,
        compute=compute,
        datastore=datastore,
        register=register,
        max_hours=max_hours,
        name=name,
    )
    print(render(_settings(config, data, output, overrides), options), end="")


def _settings(path: Path, data: str | None, output: str | None, overrides: list[str] | None) -> Config:
    from job import config as configs

    given = {"data.uri": data, "output": output}
    return configs.load(path, overrides or (), values={key: uri for key, uri in given.items() if uri is not None})
