"""One file for `kubectl apply -f -`: the templates of `k8s/`, filled in for a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from job.config import Config
from job.errors import ConfigError, UsageError
from job.render import jobset
from job.render.assemble import Manifest, assemble
from job.render.submission import MAX_NAME, check_image, check_label, check_strategy, refuse_secrets, run_name
from job.storage import local_path

Cloud = Literal["gke", "eks", "aks"]

SCRATCH = "/scratch"
BUCKET = "/bucket"
"""Where base and gcsfuse mount their volumes."""


@dataclass(frozen=True)
class Options:
    """What a run's manifests say that its config does not.

    Attributes:
        image: With a tag or digest.
        gpus: NVIDIA GPUs a machine; CPUs and memory grow with them.
        nodes: Machines that train together.
        spot: Whether on machines that can be taken away, of `cloud`.
        queue: Of Kueue.
        claim: A PersistentVolumeClaim to keep /scratch on.
        bucket: A Google Cloud Storage bucket to mount, read-only, at /bucket.
        google_account: E-mail address of the Google service account to act as.
        node_labels: KEY=VALUE each, which a node must have; the kind of GPU, for example.
        jobset: Whether several machines are a JobSet, which restarts all of them when one is lost.
        name: Of the Job and what belongs to it; None: made from the run's output.
    """

    image: str
    gpus: int = 0
    nodes: int = 1
    spot: bool = False
    cloud: Cloud = "gke"
    queue: str | None = None
    claim: str | None = None
    bucket: str | None = None
    google_account: str | None = None
    node_labels: tuple[str, ...] = ()
    jobset: bool = False
    namespace: str | None = None
    name: str | None = None


def render(config: Config, options: Options) -> str:
    """Returns the manifests of a run as YAML documents.

    Raises:
        ConfigError: When the config names what a pod does not have, or holds a secret.
        UsageError: When options contradict each other or a name is none.
    """
    _check(options)
    check_strategy(config, options.nodes)
    longest = MAX_NAME - len(_suffix(options))
    name = options.name or run_name(config, longest=longest)
    _check_names(options, name, longest)
    manifests = assemble(_components(options))
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": dict(manifests[0]["metadata"]["labels"])},
        "data": {"config.yaml": _config_text(config, options)},
    }
    for manifest in manifests:
        _FILL[manifest["kind"]](manifest, name, options)
    manifests.insert(1, config_map)
    if options.jobset:
        manifests = jobset.wrapped(manifests)
    for manifest in manifests:
        if options.namespace:
            manifest["metadata"]["namespace"] = options.namespace
    return "---\n".join(yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=120) for manifest in manifests)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines, the config, as it is read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _check(options: Options) -> None:
    if options.claim and options.nodes > 1:
        raise UsageError(
            f"--claim keeps the work of one machine, and --nodes is {options.nodes}.",
            next_step="Leave --claim out: checkpoints are in the output, which all machines reach.",
        )
    if options.jobset and options.nodes < 2:
        raise UsageError(
            "--jobset restarts several machines together, and there is one.",
            next_step="Leave --jobset out, or set --nodes.",
        )
    check_image(options.image)
    for label in options.node_labels:
        if not re.fullmatch(r"[\w./-]+=[\w.-]*", label):
            raise UsageError(
                f"--node-selector is {label!r}, but takes KEY=VALUE.",
                next_step="Write, for example, --node-selector cloud.google.com/gke-accelerator=nvidia-l4.",
            )


def _suffix(options: Options) -> str:
    """Returns what is appended to the Job's name in the host name of its last pod."""
    job = f"-{jobset.REPLICATED_JOB}-0" if options.jobset else ""
    return f"{job}-{options.nodes - 1}"


def _check_names(options: Options, name: str, longest: int) -> None:
    for what, text, room in (
        ("name", name, longest),
        ("namespace", options.namespace, MAX_NAME),
        ("queue", options.queue, MAX_NAME),
        ("claim", options.claim, MAX_NAME),
    ):
        if text is not None:
            check_label(what, text, longest=room)


def _components(options: Options) -> list[str]:
    chosen = {
        "shared-memory": True,
        "gpus": options.gpus > 0,
        "multi-node": options.nodes > 1,
        "spot": options.spot,
        f"spot-nodes-{options.cloud}": options.spot,
        "kueue": options.queue,
        "checkpoints-pvc": options.claim,
        "gcsfuse": options.bucket,
        "gcs-workload-identity": options.google_account,
    }
    return [name for name, is_chosen in chosen.items() if is_chosen]


def _config_text(config: Config, options: Options) -> str:
    """Returns the YAML of the ConfigMap: what the config sets, and a folder that can be written to."""
    tree: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)
    refuse_secrets(tree, shown_to="read ConfigMaps", next_step="give the job's ServiceAccount the right to the bucket")
    tree = {**tree, "work_dir": config.work_dir or SCRATCH}
    mounted = {
        "data.uri": (config.data.uri, {SCRATCH: bool(options.claim), BUCKET: bool(options.bucket)}),
        "output": (config.output, {SCRATCH: bool(options.claim)}),
        "work_dir": (tree["work_dir"], {SCRATCH: True, "/tmp": True}),
    }
    for key, (uri, folders) in mounted.items():
        if uri is None:
            raise ConfigError(
                f"{key} is not set, and a cluster does not say where it is.",
                next_step=f"Set {key}: gs://, s3:// or az://.",
            )
        if local_path(uri) is not None and not any(
            is_there and (uri == folder or uri.startswith(f"{folder}/")) for folder, is_there in folders.items()
        ):
            raise ConfigError(
                f"{key} is {uri!r}, a folder of this machine, which a pod does not have.",
                next_step="Name a bucket (gs://, s3://, az://)"
                + (", mount one with --bucket (/bucket/...)" if key == "data.uri" else "")
                + (" or keep it with --claim (/scratch/...)." if key != "work_dir" else f" or {SCRATCH}."),
            )
    return yaml.safe_dump(tree, sort_keys=False)


def _fill_job(job: Manifest, name: str, options: Options) -> None:
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    job["metadata"]["name"] = name
    container["image"] = options.image
    volumes["config"]["configMap"]["name"] = name
    if options.gpus:
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        requests["nvidia.com/gpu"] = limits["nvidia.com/gpu"] = str(options.gpus)
        # What the base gives a job with one.
        requests["cpu"] = str(int(requests["cpu"]) * options.gpus)
        requests["memory"] = limits["memory"] = _times(limits["memory"], options.gpus)
        shared = volumes["shared-memory"]["emptyDir"]
        shared["sizeLimit"] = _times(shared["sizeLimit"], options.gpus)
    if options.nodes > 1:
        # Each loss of a machine ends all: the base's tries, once a machine.
        spec["backoffLimit"] = spec["backoffLimit"] // spec["completions"] * options.nodes
        spec["completions"] = spec["parallelism"] = options.nodes
        pod["subdomain"] = name
        variables = {variable["name"]: variable for variable in container["env"]}
        variables["FINETUNE_WORKERS"]["value"] = str(options.nodes)
        variables["FINETUNE_SERVICE"]["value"] = name
    if options.node_labels:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **dict(each.split("=") for each in options.node_labels)}
    if options.queue:
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = options.queue
    if options.claim:
        volumes["scratch"]["persistentVolumeClaim"]["claimName"] = options.claim
    if options.bucket:
        volumes["bucket"]["csi"]["volumeAttributes"]["bucketName"] = options.bucket


def _times(quantity: str, factor: int) -> str:
    number = re.match(r"\d+", quantity)
    assert number, quantity
    return f"{int(number[0]) * factor}{quantity[number.end() :]}"


def _fill_service(service: Manifest, name: str, options: Options) -> None:
    service["metadata"]["name"] = name
    service["spec"]["selector"] = {"batch.kubernetes.io/job-name": name}


def _fill_account(account: Manifest, name: str, options: Options) -> None:
    # Its name is the same for all runs: the cloud's rights are bound to it.
    if options.google_account:
        account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"] = options.google_account


_FILL = {"Job": _fill_job, "Service": _fill_service, "ServiceAccount": _fill_account}
