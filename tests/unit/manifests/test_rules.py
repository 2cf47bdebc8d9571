"""Each rule of `rules.py` finds what it is for: faults that no schema knows."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import yaml

from job import config, errors
from job.render.kubernetes import Options, render
from tests.unit.manifests.kustomize import K8S
from tests.unit.manifests.rules import Manifest, faults

RETRIED = {75, 143}
"""Another try can help: temporary faults and stops. 1 and crashes are tried again as well, by the back-off."""

SPEC, POD = "Job.spec", "Job.spec.template.spec"
CONTAINER, RULES = f"{POD}.containers.0", f"{SPEC}.podFailurePolicy.rules"
RESOURCES = f"{CONTAINER}.resources"


@functools.cache
def text(nodes: int, gpus: int, spot: bool, cloud: Any, queue: str | None, set_of_jobs: bool) -> str:
    options = Options("registry/finetune-job:1", gpus, nodes, spot, cloud, queue=queue, jobset=set_of_jobs, name="run")
    return render(config.load(K8S / "base" / "config.yaml"), options)


def manifests(
    *, nodes: int = 2, gpus: int = 1, spot: bool = True, cloud: str = "gke", queue: str = "q", jobset: bool = False
) -> list[Manifest]:
    """Returns a run that uses everything, read afresh."""
    return list(yaml.safe_load_all(text(nodes, gpus, spot, cloud, queue, jobset)))


def tensorboard() -> list[Manifest]:
    deployment, service = (
        yaml.safe_load((K8S / "tensorboard" / f"{name}.yaml").read_text()) for name in ("deployment", "service")
    )
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "registry/finetune-job:1"
    return [deployment, service]


def changed(found: list[Manifest], keys: str, value: Any) -> list[Manifest]:
    """Sets `Kind.a.0.b` in one of the manifests, or removes the key where the value is `...`."""
    kind, *parents, last = keys.split(".")
    node: Any = next(manifest for manifest in found if manifest["kind"] == kind)
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key.replace("~", ".")]
    last = last.replace("~", ".")
    if value is ...:
        del node[int(last) if isinstance(node, list) else last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return found


def test_a_run_that_uses_everything_keeps_every_rule() -> None:
    assert faults(manifests()) == []
    assert faults(manifests(jobset=True)) == []
    assert faults(tensorboard(), there=("ServiceAccount/finetune",)) == []


@pytest.mark.parametrize(
    ("keys", "value", "fault"),
    [
        (f"{POD}.restartPolicy", "OnFailure", "restartPolicy"),
        (f"{SPEC}.podReplacementPolicy", "TerminatingOrFailed", "podReplacementPolicy"),
        (f"{SPEC}.activeDeadlineSeconds", ..., "disruptions"),
        (f"{POD}.activeDeadlineSeconds", 60, "belongs to the Job"),
        (f"{SPEC}.ttlSecondsAfterFinished", -1, "negative"),
        (f"{SPEC}.selector", {"matchLabels": {}}, "selector"),
        (f"{SPEC}.manualSelector", True, "selector"),
        ("Job.metadata.name", "Fine_Tune", "DNS"),
        ("Job.metadata.name", "r" * 62, "DNS"),  # 64 with the index
        ("Job.apiVersion", "batch/v1beta1", "apiVersion of Job"),
        ("Service.apiVersion", "v1beta1", "apiVersion of Service"),
        (f"{SPEC}.suspend", ..., "suspend"),
        (f"{POD}.terminationGracePeriodSeconds", 12, "grace"),
        (f"{CONTAINER}.args.2", "--grace=15", "grace"),
        (f"{CONTAINER}.terminationMessagePolicy", ..., "reason of an end"),
        (f"{RULES}.1.action", "Fail", "no such action"),
        (f"{RULES}.1.action", "FailIndex", "backoffLimitPerIndex"),
        (f"{RULES}.0.onPodConditions.0.status", ..., "status"),
        (f"{RULES}.1.onExitCodes.containerName", "main", "names no container"),
        (f"{RULES}.1.onExitCodes.values", [65, 2], "not sorted"),
        (f"{RULES}.1.onExitCodes.values", [2, 2], "repeat"),
        (f"{RULES}.1.onExitCodes.values", [0, 2], "no failure"),
        (f"{RESOURCES}.limits.memory", "16GB", "no quantity"),
        (f"{RESOURCES}.limits.memory", 16, "no quantity"),
        (f"{RESOURCES}.requests.memory", ..., "not requested"),
        (f"{RESOURCES}.limits", {"memory": "1Gi", "nvidia.com/gpu": "2"}, "differ from the limit"),
        (f"{RESOURCES}.limits", {"memory": "1Gi", "nvidia.com/gpu": "0.5"}, "not divisible"),
        (f"{POD}.tolerations", [], "GPU nodes are tainted"),
        (f"{POD}.tolerations.1", ..., "spot nodes are tainted"),
        (f"{CONTAINER}.env.0", {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}, "GPUs it did not ask for"),
        (f"{CONTAINER}.volumeMounts.0.name", "configuration", "volumes and mounts differ"),
        (f"{POD}.volumes.0", ..., "volumes and mounts differ"),
        (f"{POD}.volumes.1.persistentVolumeClaim", {"claimName": "c"}, "several kinds"),
        (f"{CONTAINER}.volumeMounts.2.mountPath", "/var/tmp", "/tmp"),
        (f"{CONTAINER}.volumeMounts.3.mountPath", "/dev/mem", "/dev/shm"),
        (f"{CONTAINER}.volumeMounts.0.mountPath", "/etc/other", "another config"),
        (f"{CONTAINER}.args.1", "/etc/other.yaml", "another config"),
        (f"{CONTAINER}.image", "finetune-job", "no version"),
        (f"{POD}.automountServiceAccountToken", ..., "token"),
        (f"{POD}.securityContext.runAsNonRoot", ..., "root"),
        (f"{POD}.securityContext.seccompProfile", ..., "seccomp"),
        (f"{CONTAINER}.securityContext.allowPrivilegeEscalation", ..., "privileges"),
        (f"{CONTAINER}.securityContext.capabilities", {"drop": ["NET_RAW"]}, "capabilities"),
        (f"{CONTAINER}.securityContext.readOnlyRootFilesystem", ..., "root file system"),
        (f"{SPEC}.completionMode", "NonIndexed", "Indexed"),
        (f"{SPEC}.parallelism", 1, "run together"),
        (f"{SPEC}.completions", 3, "FINETUNE_WORKERS"),
        (f"{CONTAINER}.env.0.value", "3", "FINETUNE_WORKERS"),
        (f"{CONTAINER}.env.1.value", "other", "FINETUNE_SERVICE"),
        (f"{CONTAINER}.env.2.valueFrom.fieldRef.fieldPath", "metadata.name", "no job"),
        (f"{CONTAINER}.ports.0.containerPort", 80, "port"),
        (f"{POD}.subdomain", "other", "subdomain"),
        (f"{POD}.subdomain", ..., "subdomain"),
        ("Service.metadata.name", "other", "subdomain"),
        ("Service.spec.clusterIP", ..., "headless"),
        ("Service.spec.publishNotReadyAddresses", ..., "no name"),
        ("Service.spec.selector", {"app.kubernetes.io/name": "finetune-job"}, "selects other pods"),
        ("Service.spec.selector", {"batch.kubernetes.io/job-name": "finetune"}, "selects other pods"),
        (f"{POD}.serviceAccountName", "default", "no ServiceAccount/default"),
        (f"{POD}.volumes.0.configMap.name", "other", "no ConfigMap/other"),
        (f"{POD}.volumes.1", {"name": "scratch", "persistentVolumeClaim": {"claimName": "c"}}, "no Persistent"),
        ("ConfigMap.data.config~yaml", "output: a\ndata: {uri: b}", "work_dir"),
        ("ConfigMap.data.config~yaml", "output: a\nwork_dir: /scratch", "no data"),
    ],
)
def test_a_broken_rule_of_a_job_is_found(keys: str, value: Any, fault: str) -> None:
    found = faults(changed(manifests(), keys, value))
    assert any(fault in each for each in found), found


def test_backoff_for_each_index_needs_indexes() -> None:
    one = manifests(nodes=1)
    assert faults(one) == []
    assert "backoffLimitPerIndex needs Indexed" in faults(changed(one, f"{SPEC}.backoffLimitPerIndex", 1))


def test_a_pod_that_asks_for_no_gpu_must_see_none() -> None:
    without = manifests(gpus=0, nodes=1)
    assert faults(without) == []
    assert "sees GPUs it did not ask for" in faults(changed(without, f"{CONTAINER}.env.0", ...))


@pytest.mark.parametrize(
    ("keys", "value", "fault"),
    [
        ("JobSet.spec.failurePolicy.maxRestarts", 0, "never restarts"),
        ("JobSet.spec.failurePolicy.rules.0.action", "RestartJobSet", "restarts the JobSet"),
        ("JobSet.spec.failurePolicy.rules.0.onJobFailureReasons", [], "restarts the JobSet"),
        ("JobSet.spec.replicatedJobs.0.template.spec.backoffLimit", 6, "tries once"),
        ("JobSet.spec.network.subdomain", "other", "subdomain"),
        ("JobSet.spec.suspend", ..., "suspend"),
        ("JobSet.metadata.name", "r" * 52, "DNS"),  # 64 with -workers-0-1
    ],
)
def test_a_broken_rule_of_a_jobset_is_found(keys: str, value: Any, fault: str) -> None:
    found = faults(changed(manifests(jobset=True), keys, value))
    assert any(fault in each for each in found), found


IN_POD = "Deployment.spec.template.spec.containers.0"


@pytest.mark.parametrize(
    ("keys", "value", "fault"),
    [
        ("Deployment.spec.selector.matchLabels", {"app": "x"}, "Deployment selects"),
        ("Service.spec.selector", {"app": "x"}, "Service selects"),
        ("Service.spec.type", "LoadBalancer", "password"),
        ("Service.spec.ports.0.targetPort", "web", "another port"),
        (f"{IN_POD}.readinessProbe.httpGet.path", "/healthz", "answers at /"),
        (f"{IN_POD}.args.2", "--host=localhost", "cannot reach"),
        (f"{IN_POD}.env.0.value", "all", "GPUs"),
        (f"{IN_POD}.securityContext.readOnlyRootFilesystem", False, "root file system"),
        ("Deployment.spec.template.spec.serviceAccountName", "default", "no ServiceAccount/default"),
    ],
)
def test_a_broken_rule_of_tensorboard_is_found(keys: str, value: Any, fault: str) -> None:
    found = faults(changed(tensorboard(), keys, value), there=("ServiceAccount/finetune",))
    assert any(fault in each for each in found), found


def exit_codes(error: type[errors.JobError]) -> set[int]:
    return {error.exit_code}.union(*map(exit_codes, error.__subclasses__()))


def test_the_failure_policy_is_that_of_the_errors() -> None:
    rules = yaml.safe_load((K8S / "base" / "job.yaml").read_text())["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert set(rules[1]["onExitCodes"]["values"]) == exit_codes(errors.JobError) - {errors.JobError.exit_code} - RETRIED
