"""`finetune render kubernetes`: one file for `kubectl apply -f -`, or one error that says why not."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from job import config
from job.cluster import indexed
from job.errors import ConfigError, UsageError
from job.render.kubernetes import Options, render
from job.render.submission import MAX_NAME, run_name
from tests.unit.manifests.kustomize import REPOSITORY
from tests.unit.manifests.rules import Manifest, faults

IMAGE = "registry/finetune-job:0.1.0"
PLAIN = Options(IMAGE)


def settings(**values: object) -> config.Config:
    given = {"data.uri": "gs://b/photos", "output": "gs://b/runs/Roses & Tulips", **values}
    return config.load(values={key: value for key, value in given.items() if value is not None})


def rendered(options: Options, **values: object) -> list[Manifest]:
    return list(yaml.safe_load_all(render(settings(**values), options)))


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


@pytest.mark.parametrize(
    ("nodes", "gpus", "spot", "cloud", "queue"),
    [
        *itertools.product((1, 3), (0, 8), (False,), ("gke",), (None, "team-a")),
        *itertools.product((1, 3), (0, 1), (True,), ("gke", "eks", "aks"), (None, "team-a")),
    ],
)
def test_every_choice_is_what_the_cluster_takes_and_keeps_every_rule(
    nodes: int, gpus: int, spot: bool, cloud: Any, queue: str | None
) -> None:
    manifests = rendered(Options(IMAGE, gpus, nodes, spot, cloud, queue))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    assert faults(manifests) == []
    job = of_kind(manifests, "Job")["spec"]
    assert job.get("completions", 1) == nodes
    assert job["backoffLimit"] == 6 * nodes
    assert ("nodeSelector" in job["template"]["spec"]) == spot
    assert job.get("suspend", False) == (queue is not None)
    (container,) = job["template"]["spec"]["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu", "0") == str(gpus)


def test_volumes_and_rights_are_what_was_asked_for() -> None:
    options = Options(IMAGE, claim="my-scratch", bucket="photos", google_account="a@p.iam.gserviceaccount.com")
    manifests = rendered(options, **{"data.uri": "/bucket/flowers", "output": "/scratch/runs/1"})
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    assert faults(manifests, there=("PersistentVolumeClaim/my-scratch",)) == []
    volumes = {each["name"]: each for each in of_kind(manifests, "Job")["spec"]["template"]["spec"]["volumes"]}
    assert volumes["scratch"] == {"name": "scratch", "persistentVolumeClaim": {"claimName": "my-scratch"}}
    assert volumes["bucket"]["csi"]["volumeAttributes"]["bucketName"] == "photos"
    annotations = of_kind(manifests, "ServiceAccount")["metadata"]["annotations"]
    assert annotations == {"iam.gke.io/gcp-service-account": "a@p.iam.gserviceaccount.com"}


def test_a_jobset_restarts_the_whole_group() -> None:
    manifests = rendered(Options(IMAGE, gpus=1, nodes=2, jobset=True, queue="team-a", name="flowers"))
    assert [manifest["kind"] for manifest in manifests] == ["ServiceAccount", "ConfigMap", "JobSet"]
    assert faults(manifests) == []
    jobset = of_kind(manifests, "JobSet")
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert jobset["spec"]["suspend"] is True
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 6
    (workers,) = jobset["spec"]["replicatedJobs"]
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "flowers"}, **workers["template"]},
        "1.31",
        strict=True,
    )


@pytest.mark.parametrize("jobset", [False, True])
def test_pods_find_each_other_by_what_the_manifest_gives_them(jobset: bool) -> None:
    manifests = rendered(Options(IMAGE, nodes=2, jobset=jobset, name="flowers"))
    if jobset:
        job = of_kind(manifests, "JobSet")["spec"]["replicatedJobs"][0]["template"]
        name = "flowers-workers-0"
    else:
        job, name = of_kind(manifests, "Job"), "flowers"
    variables = {
        # Kubernetes gives the pod its Job's name as a label.
        each["name"]: each.get("value", name)
        for each in job["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    text = indexed.tf_config({**variables, "JOB_COMPLETION_INDEX": "1"})
    assert text is not None
    assert f'["{name}-0.flowers:2222", "{name}-1.flowers:2222"]' in text


def test_the_config_map_is_the_run_s_config_and_nothing_else_of_it_changes() -> None:
    given = settings(**{"model.backbone": "resnet50", "train.seed": 7})
    text = of_kind(list(yaml.safe_load_all(render(given, PLAIN))), "ConfigMap")["data"]["config.yaml"]
    tree = yaml.safe_load(text)
    assert config.validate(tree) == given.model_copy(update={"work_dir": "/scratch"})
    assert "telemetry" not in tree, "defaults stay those of the image"
    assert "config.yaml: |\n" in render(given, PLAIN), "people read it"


@pytest.mark.parametrize("output", ["gs://b/runs/1", "gs://b/Größe ÄÖ/", "gs://b/" + "x" * 200, "s3://b", "gs://b/__"])
@pytest.mark.parametrize(("nodes", "jobset"), [(1, False), (11, False), (1000, False), (1000, True)])
def test_the_run_names_its_job_within_what_dns_takes(output: str, nodes: int, jobset: bool) -> None:
    manifests = rendered(replace(PLAIN, nodes=nodes, jobset=jobset), output=output)
    assert faults(manifests) == []
    name = manifests[-1 if jobset else 2]["metadata"]["name"]
    assert name.startswith("finetune-")
    assert len(f"{name}{'-workers-0' if jobset else ''}-{nodes - 1}") <= MAX_NAME


def test_runs_have_names_of_their_own_and_the_same_run_the_same() -> None:
    names = {run_name(settings(output=f"gs://b/{folder}/1"), longest=61) for folder in ("a", "b")}
    assert len(names) == 2
    assert run_name(settings(output="gs://b/a/1/"), longest=61) == run_name(settings(output="gs://b/a/1"), longest=61)


def test_a_namespace_is_everywhere() -> None:
    manifests = rendered(replace(PLAIN, nodes=2, namespace="team-a"))
    assert [manifest["metadata"]["namespace"] for manifest in manifests] == ["team-a"] * 4


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"data.uri": "photos"}, "data.uri"),
        ({"data.uri": "/bucket/photos"}, "data.uri"),
        ({"output": "/scratch/runs"}, "output"),
        ({"output": "./runs"}, "output"),
        ({"work_dir": "/var/cache"}, "work_dir"),
        ({"work_dir": "/scratchy"}, "work_dir"),
        ({"output": None}, "output"),
        ({"data.uri": None}, "data.uri"),
    ],
)
def test_what_a_pod_does_not_have_is_refused(values: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is ") as caught:
        rendered(PLAIN, **values)
    assert caught.value.next_step


@pytest.mark.parametrize(("strategy", "nodes"), [("single", 2), ("mirrored", 2), ("multi_worker", 1)])
def test_a_strategy_for_other_machines_is_refused(strategy: str, nodes: int) -> None:
    with pytest.raises(ConfigError, match=f"train.strategy is {strategy}, and --nodes is {nodes}"):
        rendered(replace(PLAIN, nodes=nodes), **{"train.strategy": strategy})
    assert faults(rendered(replace(PLAIN, nodes=3 - nodes), **{"train.strategy": strategy})) == []


def test_a_secret_does_not_get_into_a_config_map() -> None:
    with pytest.raises(ConfigError, match="holds a secret"):
        rendered(PLAIN, **{"model.weights": "https://host/w.h5?X-Amz-Signature=0123456789abcdef0123456789abcdef"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "registry/finetune-job"}, "neither a tag nor a digest"),
        ({"image": "registry:5000/finetune-job"}, "neither a tag nor a digest"),
        ({"claim": "c", "nodes": 2}, "--claim"),
        ({"jobset": True}, "--jobset"),
        ({"name": "Roses"}, "--name is 'Roses'"),
        ({"name": "1roses"}, "beginning with a letter"),
        ({"name": "r" * 62}, "at most 61"),
        ({"name": "r" * 52, "nodes": 2, "jobset": True}, "at most 51"),
        ({"queue": "a_b"}, "--queue"),
        ({"namespace": "a.b"}, "--namespace"),
        ({"claim": "-c"}, "--claim"),
        ({"node_labels": ("gke-accelerator",)}, "--node-selector"),
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        rendered(replace(PLAIN, **change))
    assert caught.value.next_step


@pytest.mark.parametrize("image", ["finetune-job:cpu", f"r.example:5000/a/b@sha256:{'0' * 64}"])
def test_an_image_has_a_tag_or_a_digest(image: str) -> None:
    assert faults(rendered(replace(PLAIN, image=image))) == []


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # As a user has it: installed, in another folder.
    program = [sys.executable, "-m", "job", "render", "kubernetes", *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command_prints_the_manifests_alone_and_its_errors_have_their_codes(tmp_path: Path) -> None:
    file = str(REPOSITORY / "job" / "render" / "k8s" / "base" / "config.yaml")
    done = command(file, "--image", IMAGE, "--gpus", "4", "--nodes", "2", "--set", "train.seed=7", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    manifests = list(yaml.safe_load_all(done.stdout))
    assert faults(manifests) == []
    assert yaml.safe_load(of_kind(manifests, "ConfigMap")["data"]["config.yaml"])["train"]["seed"] == 7
    assert command(file, "--image", IMAGE, "--cloud", "moon", folder=tmp_path).returncode == 2
    refused = command(file, "--image", IMAGE, "--output", "runs/1", folder=tmp_path)
    assert refused.returncode == 78
    assert refused.stdout == ""
    assert "a folder of this machine" in refused.stderr
