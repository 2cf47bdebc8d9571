"""What Vertex AI, SageMaker and Azure ML have in common: machines by the hour, and folders that are not of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from job.config import Config
from job.errors import ConfigError, UsageError
from job.render.submission import MAX_NAME, check_image, check_label, check_strategy, run_name
from job.storage import local_path

SCRATCH = "/tmp"
"""The image's folder for downloads and caches; each service gives its disk to it."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What a job of any of the services says that the config does not.

    Attributes:
        image: With a tag or digest.
        gpus: GPUs a machine; chooses the type of machine where `machine_type` is None.
        nodes: Machines that train together.
        spot: Whether on machines that can be taken away.
        machine_type: In the service's words.
        max_hours: After which the service stops the job.
        name: None: made from the run's output.
    """

    image: str
    gpus: int = 0
    nodes: int = 1
    spot: bool = False
    machine_type: str | None = None
    max_hours: float = 24.0
    name: str | None = None

    @property
    def max_s(self) -> int:
        return round(self.max_hours * 3600)


def checked(config: Config, machines: Machines, service: str) -> tuple[str, str, str]:
    """Returns the job's name and the URIs of data and output.

    Raises:
        ConfigError: When data or output are not set, or the work folder is one that the machines do not have.
        UsageError: When the image or the name cannot be.
    """
    check_image(machines.image)
    check_strategy(config, machines.nodes)
    name = machines.name or run_name(config, longest=MAX_NAME)
    check_label("name", name, longest=MAX_NAME)
    for key, uri in (("data.uri", config.data.uri), ("output", config.output)):
        if not uri:
            raise ConfigError(
                f"{key} is not set, and the job would not know it.",
                next_step=f"Set {key} to a bucket's folder, or give --{key.removesuffix('.uri')}.",
            )
    if config.work_dir is not None and not f"{config.work_dir}/".startswith(f"{SCRATCH}/"):
        raise ConfigError(
            f"work_dir is {config.work_dir!r}, a folder which a machine of {service} does not have.",
            next_step=f"Leave work_dir out (--set work_dir=null), or name a folder below {SCRATCH}.",
        )
    assert config.data.uri
    assert config.output
    return name, config.data.uri, config.output


def refuse_local(key: str, uri: str, service: str, *, allowed: str) -> None:
    """Refuses a folder of this machine: a ConfigError."""
    if local_path(uri) is not None:
        raise ConfigError(
            f"{key} is {uri!r}, a folder of this machine, which a machine of {service} does not have.",
            next_step=f"Name a bucket's folder: {allowed}.",
        )


def machine_type(machines: Machines, usual: Mapping[int, str]) -> str:
    """Returns the type of machine: the given one, or the usual one with so many GPUs.

    Raises:
        UsageError: When there is none with so many, or both are given.
    """
    if machines.machine_type:
        if machines.gpus:
            raise UsageError(
                f"--machine-type {machines.machine_type} says how many GPUs there are, and so does --gpus "
                f"{machines.gpus}.",
                next_step="Give one of the two.",
            )
        return machines.machine_type
    if machines.gpus not in usual:
        raise UsageError(
            f"--gpus is {machines.gpus}; the machines that are chosen by it have {', '.join(map(str, usual))}.",
            next_step="Give one of these, or another machine with --machine-type.",
        )
    return usual[machines.gpus]
