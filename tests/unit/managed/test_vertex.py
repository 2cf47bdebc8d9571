"""`finetune render vertex`: what Vertex AI's library takes, and what the job then finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from job import cluster, config
from job.cluster import Cluster
from job.errors import ConfigError, UsageError
from job.platforms import recognise
from job.render.vertex import Options, render
from tests.unit.managed.places import Spec, changed, settings, vertex

IMAGE = "europe-docker.pkg.dev/p/r/finetune-job:0.1.0"
ACCOUNT = "trainer@p.iam.gserviceaccount.com"
BOARD = "projects/p/locations/europe-west4/tensorboards/7"
GIVEN = {"data.uri": "gs://b/photos", "output": "gs://b/runs/1", "train.seed": 7, "telemetry.profile_steps": [3, 7]}
Refusal = Callable[[str, str], str]


def text(options: dict[str, Any] | None = None, **values: Any) -> str:
    return render(config.load(values={**GIVEN, **values}), Options(**{"image": IMAGE, **(options or {})}))


def spec(options: dict[str, Any] | None = None, **values: Any) -> Spec:
    found: Spec = yaml.safe_load(text(options, **values))
    return found


def everything() -> Spec:
    return spec({"gpus": 1, "nodes": 3, "spot": True, "service_account": ACCOUNT, "tensorboard": BOARD})


@pytest.mark.parametrize(("gpus", "nodes", "spot"), [*itertools.product((0, 1, 2, 4, 8), (1, 3), (False, True))])
def test_every_choice_is_taken(refusal: Refusal, gpus: int, nodes: int, spot: bool) -> None:
    rendered = text({"gpus": gpus, "nodes": nodes, "spot": spot})
    assert refusal("vertex", rendered) == ""
    found = yaml.safe_load(rendered)
    assert sum(pool["replicaCount"] for pool in found["workerPoolSpecs"]) == nodes
    assert found["workerPoolSpecs"][0]["replicaCount"] == 1, "the chief"
    assert all(pool["machineSpec"].get("acceleratorCount", 0) == gpus for pool in found["workerPoolSpecs"])
    assert (found["scheduling"].get("strategy") == "SPOT") == spot
    assert found["scheduling"].get("restartJobOnWorkerRestart", False) == (nodes > 1)


def test_everything_together_is_taken(refusal: Refusal) -> None:
    assert refusal("vertex", yaml.safe_dump(everything())) == ""


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("workerPoolSpecs.0.replicas", 1),
        ("workerPoolSpecs.0.replicaCount", "one"),
        ("workerPoolSpecs.0.machineSpec.acceleratorType", "NVIDIA_L5"),
        ("workerPoolSpecs.0.machineSpec.acceleratorCount", 1.5),
        ("workerPoolSpecs.0.containerSpec.args", "train"),
        ("workerPoolSpecs.0.containerSpec.args.1", 7),
        ("workerPoolSpecs.0.diskSpec.bootDiskSizeGb", "100Gi"),
        ("workerPoolSpecs", {}),
        ("scheduling.strategy", "CHEAP"),
        ("scheduling.timeout", "1d"),
        ("scheduling.restartJobOnWorkerRestart", "yes"),
        ("baseOutputDirectory", "gs://b/runs/1"),
        ("displayName", "finetune"),
        ("service_account", ACCOUNT),
    ],
)
def test_a_broken_specification_is_refused(refusal: Refusal, keys: str, value: Any) -> None:
    assert refusal("vertex", yaml.safe_dump(changed(everything(), keys, value)))


@pytest.mark.parametrize("machine", [0, 1, 2])
def test_what_was_rendered_is_recognised_with_the_same_settings(machine: int) -> None:
    arguments, variables = vertex(everything(), machine)
    platform = recognise(variables)
    assert (platform.name, platform.output_uri) == ("vertex", "gs://b/runs/1")
    assert settings(arguments, platform) == config.load(values=GIVEN)
    assert cluster.of("auto", {"TF_CONFIG": platform.tf_config or ""}) == Cluster(3, machine)


def test_one_machine_is_no_cluster() -> None:
    arguments, variables = vertex(spec({"spot": True}))
    platform = recognise(variables)
    assert platform.tf_config is None
    assert settings(arguments, platform) == config.load(values=GIVEN)
    # Of the 30 s of a Spot VM. Source: Compute Engine, "Spot VMs", preemption process.
    assert platform.grace_s < 30


def test_mounted_buckets_are_named_as_buckets() -> None:
    mounted = {"data.uri": "/gcs/b/photos", "output": "/gcs/b/runs/1"}
    arguments, variables = vertex(spec(**mounted))
    assert settings(arguments, recognise(variables)) == config.load(values=GIVEN)


def test_the_first_line_is_the_command_with_the_run_s_name() -> None:
    first = text().splitlines()[0]
    assert first.startswith("# gcloud ai custom-jobs create ")
    assert " --display-name finetune-1-" in first
    assert " --display-name roses " in text({"name": "roses"}).splitlines()[0]


def test_a_machine_of_another_kind_is_named_with_its_gpus(refusal: Refusal) -> None:
    rendered = text({"machine_type": "a2-highgpu-2g", "accelerator": "NVIDIA_TESLA_A100", "gpus": 2, "max_hours": 1.5})
    assert refusal("vertex", rendered) == ""
    found = yaml.safe_load(rendered)
    machine = {"machineType": "a2-highgpu-2g", "acceleratorType": "NVIDIA_TESLA_A100", "acceleratorCount": 2}
    assert found["workerPoolSpecs"][0]["machineSpec"] == machine
    assert found["scheduling"]["timeout"] == "5400s"
    plain = spec({"machine_type": "c3-standard-8"})["workerPoolSpecs"][0]["machineSpec"]
    assert plain == {"machineType": "c3-standard-8"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "r/finetune-job"}, "neither a tag nor a digest"),
        ({"name": "Roses"}, "--name is 'Roses'"),
        ({"gpus": 3}, "--gpus is 3; the machines that are chosen by it have 0, 1, 2, 4, 8"),
        ({"gpus": 1, "accelerator": "NVIDIA_TESLA_A100"}, "chosen by --gpus have NVIDIA_L4"),
        ({"accelerator": "NVIDIA_L4"}, "--gpus 0; the machines"),
        ({"gpus": 1, "machine_type": "n1-standard-4"}, "both a number and a kind"),
        ({"accelerator": "NVIDIA_L4", "machine_type": "g2-standard-4"}, "both a number and a kind"),
        ({"tensorboard": BOARD}, "needs a service account"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        text(options)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data.uri": "photos"}, "data.uri is 'photos', a folder of this machine"),
        ({"data.uri": None}, "data.uri is not set"),
        ({"output": None}, "output is not set"),
        ({"output": "./runs"}, "a folder of this machine"),
        ({"output": "s3://b/runs"}, "is in Cloud Storage"),
        ({"work_dir": "/scratch"}, "a machine of Vertex AI does not have"),
        ({"work_dir": "/tmpfs"}, "a machine of Vertex AI does not have"),
        ({"train.strategy": "multi_worker"}, "--nodes is 1"),
        ({"model.weights": "https://h/w.h5?X-Goog-Signature=0123456789abcdef"}, "holds a secret"),
    ],
)
def test_what_the_machines_do_not_have_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        text(**values)
    assert caught.value.next_step


def test_a_secret_in_an_option_is_refused_as_well() -> None:
    with pytest.raises(ConfigError, match="holds a secret"):
        text({"image": "https://user:pass@registry/finetune-job:0.1.0"})
