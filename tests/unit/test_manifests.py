"""Holds the Kubernetes manifests to the job's own contracts and to the rules that no schema checks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from job import config, errors

K8S = Path(__file__).resolve().parents[2] / "k8s"
BASE = K8S / "base"
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
KUBERNETES_VERSIONS = ("1.31", "1.33")
"""podFailurePolicy is stable from 1.31 on."""

RETRIED = {75, 143}
"""Another try can help: temporary faults and stops. 1 and crashes are tried again as well, by the back-off."""

QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    document: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def exit_codes(error: type[errors.JobError]) -> set[int]:
    return {error.exit_code}.union(*map(exit_codes, error.__subclasses__()))


def container_of(job: Manifest) -> Manifest:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def faults(job: Manifest) -> list[str]:
    """Returns what is wrong with a Job that a schema lets pass."""
    spec, pod, container = job["spec"], job["spec"]["template"]["spec"], container_of(job)
    found = []

    def must(holds: bool, fault: str) -> None:
        if not holds:
            found.append(fault)

    must(pod.get("restartPolicy") == "Never", "podFailurePolicy needs restartPolicy Never")
    must(spec.get("podReplacementPolicy") == "Failed", "podFailurePolicy needs podReplacementPolicy Failed")
    must("activeDeadlineSeconds" not in pod, "activeDeadlineSeconds belongs to the Job, not to its pods")
    must(spec.get("activeDeadlineSeconds", 0) > 0, "ignored disruptions need an activeDeadlineSeconds")
    must(spec.get("ttlSecondsAfterFinished", 0) >= 0, "ttlSecondsAfterFinished is negative")
    must("selector" not in spec, "the selector is made by the cluster")
    must(bool(NAME.fullmatch(job["metadata"]["name"])), "the name is no DNS label")
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        must(rule["action"] in ("Ignore", "FailJob", "Count", "FailIndex"), f"no such action: {rule['action']}")
        for condition in rule.get("onPodConditions", []):
            must(condition.get("status") == "True", "onPodConditions needs status 'True'")
        codes = rule.get("onExitCodes")
        if codes:
            must(codes.get("containerName") == container["name"], "the rule names no container of the pod")
            must(codes["values"] == sorted(set(codes["values"])), "exit codes are not sorted or repeat")
            must(0 not in codes["values"], "0 is no failure")
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name, quantity in [*requests.items(), *limits.items()]:
        must(isinstance(quantity, str) and bool(QUANTITY.fullmatch(quantity)), f"no quantity: {name}: {quantity!r}")
    must({"cpu", "memory"} <= set(requests) and "memory" in limits, "cpu and memory are not requested or limited")
    gpu = "nvidia.com/gpu"
    must(requests.get(gpu) == limits.get(gpu), "GPUs requested differ from the limit")
    must(str(limits.get(gpu, "1")).isdecimal(), "a GPU is not divisible")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
    must(set(mounts) == volumes, f"volumes and mounts differ: {sorted(set(mounts) ^ volumes)}")
    must({"/tmp", "/dev/shm"} <= set(mounts.values()), "/tmp and /dev/shm are not mounted")
    must(pod.get("automountServiceAccountToken") is False, "the pod gets a token of the cluster")
    must(pod.get("securityContext", {}).get("runAsNonRoot") is True, "the pod may run as root")
    must(pod["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}, "no seccomp profile")
    security = container.get("securityContext", {})
    must(security.get("allowPrivilegeEscalation") is False, "privileges can grow")
    must(security.get("capabilities") == {"drop": ["ALL"]}, "capabilities are kept")
    must(security.get("readOnlyRootFilesystem") is True, "the root file system can be written to")
    return found


def change(job: Manifest, keys: str, value: Any) -> Manifest:
    """Sets the value at `a.0.b` in a Job read afresh, or removes the key where the value is `...`."""
    node: Any = job
    *parents, last = [int(key) if key.isdecimal() else key for key in keys.split(".")]
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return job


def test_the_failure_policy_is_that_of_the_errors() -> None:
    rules = read(BASE / "job.yaml")["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert set(rules[1]["onExitCodes"]["values"]) == exit_codes(errors.JobError) - {errors.JobError.exit_code} - RETRIED


def test_base_job_keeps_every_rule() -> None:
    assert faults(read(BASE / "job.yaml")) == []


POD, CONTAINER, RULES = "spec.template.spec", "spec.template.spec.containers.0", "spec.podFailurePolicy.rules"


@pytest.mark.parametrize(
    ("keys", "value", "fault"),
    [
        (f"{POD}.restartPolicy", "OnFailure", "restartPolicy"),
        ("spec.podReplacementPolicy", "TerminatingOrFailed", "podReplacementPolicy"),
        ("spec.activeDeadlineSeconds", ..., "disruptions"),
        (f"{POD}.activeDeadlineSeconds", 60, "belongs to the Job"),
        ("spec.ttlSecondsAfterFinished", -1, "negative"),
        ("spec.selector", {"matchLabels": {}}, "selector"),
        ("metadata.name", "Fine_Tune", "DNS"),
        (f"{RULES}.1.action", "Fail", "no such action"),
        (f"{RULES}.0.onPodConditions.0.status", ..., "status"),
        (f"{RULES}.1.onExitCodes.containerName", "main", "names no container"),
        (f"{RULES}.1.onExitCodes.values", [65, 2], "not sorted"),
        (f"{RULES}.1.onExitCodes.values", [0, 2], "no failure"),
        (f"{CONTAINER}.resources.limits.memory", "16GB", "no quantity"),
        (f"{CONTAINER}.resources.requests.memory", ..., "not requested"),
        (f"{CONTAINER}.resources.limits", {"memory": "1Gi", "nvidia.com/gpu": "1"}, "differ from the limit"),
        (f"{CONTAINER}.resources.limits", {"memory": "1Gi", "nvidia.com/gpu": "0.5"}, "not divisible"),
        (f"{CONTAINER}.volumeMounts.0.name", "configuration", "volumes and mounts differ"),
        (f"{CONTAINER}.volumeMounts.2.mountPath", "/var/tmp", "/tmp"),
        (f"{POD}.automountServiceAccountToken", ..., "token"),
        (f"{POD}.securityContext.runAsNonRoot", ..., "root"),
        (f"{POD}.securityContext.seccompProfile", ..., "seccomp"),
        (f"{CONTAINER}.securityContext.allowPrivilegeEscalation", ..., "privileges"),
        (f"{CONTAINER}.securityContext.capabilities", {"drop": ["NET_RAW"]}, "capabilities"),
        (f"{CONTAINER}.securityContext.readOnlyRootFilesystem", ..., "root file system"),
    ],
)
def test_a_broken_rule_is_found(keys: str, value: Any, fault: str) -> None:
    found = faults(change(read(BASE / "job.yaml"), keys, value))
    assert any(fault in each for each in found), found


def test_base_config_is_one_the_job_takes() -> None:
    mount = next(each for each in container_of(read(BASE / "job.yaml"))["volumeMounts"] if each["name"] == "config")
    assert container_of(read(BASE / "job.yaml"))["args"] == ["train", f"{mount['mountPath']}/config.yaml"]
    settings = config.load(BASE / "config.yaml")
    assert settings.data.uri
    assert settings.output


def test_the_job_writes_only_where_a_volume_is() -> None:
    settings = config.load(BASE / "config.yaml")
    mounts = {mount["mountPath"] for mount in container_of(read(BASE / "job.yaml"))["volumeMounts"]}
    assert settings.work_dir in mounts


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    """Returns the manifests of an overlay as `kubectl apply -k` would send them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine to render the overlays with")
    done = subprocess.run([kubectl, "kustomize", request.param], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_overlays_render_to_what_the_cluster_takes(rendered: list[Manifest]) -> None:
    for manifest in rendered:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_overlays_keep_every_rule_and_their_references_resolve(rendered: list[Manifest]) -> None:
    by_kind = {manifest["kind"]: manifest for manifest in rendered}
    assert set(by_kind) == {"ConfigMap", "Job", "ServiceAccount"}
    job, pod = by_kind["Job"], by_kind["Job"]["spec"]["template"]["spec"]
    assert faults(job) == []
    assert pod["serviceAccountName"] == by_kind["ServiceAccount"]["metadata"]["name"] == "finetune"
    (config_map,) = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
    assert config_map == by_kind["ConfigMap"]["metadata"]["name"]
    assert job["metadata"]["name"] != "finetune", "an overlay names its run"
    assert ":" in container_of(job)["image"], "an overlay names the image's version"
