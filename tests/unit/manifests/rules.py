"""What Kubernetes' schemas let pass and a cluster, or the job in it, would not: rules over a set of manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from job import config
from job.render import jobset

Manifest = dict[str, Any]

QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
API_VERSIONS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "JobSet": "jobset.x-k8s.io/v1alpha2",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}
GPU = "nvidia.com/gpu"
JOB_NAME = "batch.kubernetes.io/job-name"


def faults(manifests: list[Manifest], *, there: tuple[str, ...] = ()) -> list[str]:
    """Returns what is wrong with manifests that belong together; `there`: "Kind/name" that the cluster has already."""
    names = {f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests} | set(there)
    found = [
        f"no such apiVersion of {manifest['kind']}"
        for manifest in manifests
        if manifest["apiVersion"] != API_VERSIONS[manifest["kind"]]
    ]
    services = [manifest for manifest in manifests if manifest["kind"] == "Service"]
    for manifest in manifests:
        match manifest["kind"]:
            case "Job":
                found += _of_job(manifest["metadata"]["name"], manifest, services)
                found += _of_pod(manifest["spec"]["template"]["spec"], names, manifests)
            case "JobSet":
                inner = manifest["spec"]["replicatedJobs"][0]["template"]
                found += _of_jobset(manifest)
                found += _of_pod(inner["spec"]["template"]["spec"], names, manifests)
            case "Deployment":
                found += _of_deployment(manifest, services)
                found += _of_pod(manifest["spec"]["template"]["spec"], names, manifests)
    return found


def _missing(*rules: tuple[bool, str]) -> Iterator[str]:
    return (fault for holds, fault in rules if not holds)


def _of_jobset(manifest: Manifest) -> Iterator[str]:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    name = manifest["metadata"]["name"]
    network = manifest["spec"]["network"]
    service = {
        "metadata": {"name": network["subdomain"]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": network["publishNotReadyAddresses"],
            "selector": {JOB_NAME: f"{name}-{replicated['name']}-0"},
        },
    }
    inner = {"metadata": {"labels": manifest["metadata"]["labels"]}, "spec": {**replicated["template"]["spec"]}}
    if "suspend" in manifest["spec"]:
        inner["spec"]["suspend"] = manifest["spec"]["suspend"]
    yield from _of_job(f"{name}-{replicated['name']}-0", inner, [service])
    final = manifest["spec"]["failurePolicy"]["rules"][0]
    yield from _missing(
        (inner["spec"]["backoffLimit"] == 0, "a JobSet restarts all, so its Job tries once"),
        (manifest["spec"]["failurePolicy"]["maxRestarts"] > 0, "the JobSet never restarts"),
        (final == {"action": "FailJobSet", "onJobFailureReasons": list(jobset.FINAL)}, "an error restarts the JobSet"),
    )


def _of_job(name: str, job: Manifest, services: list[Manifest]) -> Iterator[str]:
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    is_indexed = spec.get("completionMode") == "Indexed"
    longest = name + (f"-{spec['completions'] - 1}" if is_indexed else "")
    queue = "kueue.x-k8s.io/queue-name" in job["metadata"].get("labels", {})
    grace = [float(each.removeprefix("--grace=")) for each in container["args"] if each.startswith("--grace=")]
    yield from _missing(
        (pod.get("restartPolicy") == "Never", "podFailurePolicy needs restartPolicy Never"),
        (spec.get("podReplacementPolicy") == "Failed", "podFailurePolicy needs podReplacementPolicy Failed"),
        ("activeDeadlineSeconds" not in pod, "activeDeadlineSeconds belongs to the Job, not to its pods"),
        (spec.get("activeDeadlineSeconds", 0) > 0, "ignored disruptions need an activeDeadlineSeconds"),
        (spec.get("ttlSecondsAfterFinished", 0) >= 0, "ttlSecondsAfterFinished is negative"),
        ("selector" not in spec and "manualSelector" not in spec, "the selector is made by the cluster"),
        (bool(NAME.fullmatch(name)) and len(longest) <= 63, "the pods' host names are no DNS labels"),
        ("backoffLimitPerIndex" not in spec or is_indexed, "backoffLimitPerIndex needs Indexed"),
        (not queue or spec.get("suspend") is True, "a queue needs suspend"),
        ((grace or [25.0])[0] < pod["terminationGracePeriodSeconds"], "--grace ends after the grace period"),
        ("terminationMessagePolicy" in container, "the reason of an end is not shown"),
    )
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes", {"containerName": container["name"], "values": [1]})
        yield from _missing(
            (rule["action"] in ("Ignore", "FailJob", "Count", "FailIndex"), f"no such action: {rule['action']}"),
            (rule["action"] != "FailIndex" or "backoffLimitPerIndex" in spec, "FailIndex needs backoffLimitPerIndex"),
            (all(each.get("status") == "True" for each in rule.get("onPodConditions", [])), "no status 'True'"),
            (codes.get("containerName") == container["name"], "the rule names no container of the pod"),
            (codes["values"] == sorted(set(codes["values"])), "exit codes are not sorted or repeat"),
            (0 not in codes["values"], "0 is no failure"),
        )
    variables = {each["name"]: each.get("value") for each in container.get("env", [])}
    if "FINETUNE_WORKERS" in variables or is_indexed:
        yield from _of_workers(name, spec, variables, services)


def _of_workers(name: str, spec: Manifest, variables: dict[str, str | None], services: list[Manifest]) -> Iterator[str]:
    pod = spec["template"]["spec"]
    headless = {each["metadata"]["name"]: each["spec"] for each in services if each["spec"].get("clusterIP") == "None"}
    service = headless.get(pod.get("subdomain", ""), {})
    ports = [each["containerPort"] for each in pod["containers"][0].get("ports", [])]
    label = next((each for each in pod["containers"][0].get("env", []) if each["name"] == "FINETUNE_JOB"), {})
    yield from _missing(
        (spec.get("completionMode") == "Indexed", "workers need the index of an Indexed Job"),
        (spec["completions"] == spec["parallelism"], "workers that train together run together"),
        (variables.get("FINETUNE_WORKERS") == str(spec["completions"]), "FINETUNE_WORKERS differs from completions"),
        (bool(service), "subdomain is no headless Service"),
        (variables.get("FINETUNE_SERVICE") == pod.get("subdomain"), "FINETUNE_SERVICE is not the subdomain"),
        (service.get("publishNotReadyAddresses") is True, "starting pods have no name"),
        (service.get("selector") == {JOB_NAME: name}, "the Service selects other pods"),
        (label.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") == f"metadata.labels['{JOB_NAME}']", "no job"),
        (ports == [int(variables.get("FINETUNE_PORT") or 2222)], "the workers' port is another"),
    )


def _of_pod(pod: Manifest, names: set[str], manifests: list[Manifest]) -> Iterator[str]:
    (container,) = pod["containers"]
    resources, security = container.get("resources", {}), container.get("securityContext", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
    taints = {each.get("key") for each in pod.get("tolerations", [])}
    variables = {each["name"]: each.get("value") for each in container.get("env", [])}
    spot = {key for key in pod.get("nodeSelector", {}) if key.endswith(("gke-spot", "scalesetpriority"))}
    yield from (
        f"no quantity: {name}: {quantity!r}"
        for name, quantity in [*requests.items(), *limits.items()]
        if not (isinstance(quantity, str) and QUANTITY.fullmatch(quantity))
    )
    yield from _missing(
        ({"cpu", "memory"} <= set(requests) and "memory" in limits, "cpu and memory are not requested or limited"),
        (requests.get(GPU) == limits.get(GPU), "GPUs requested differ from the limit"),
        (str(limits.get(GPU, "1")).isdecimal(), "a GPU is not divisible"),
        (GPU not in limits or GPU in taints, "GPU nodes are tainted"),
        ((variables.get("NVIDIA_VISIBLE_DEVICES") == "void") == (GPU not in limits), "sees GPUs it did not ask for"),
        (spot <= taints, "spot nodes are tainted"),
        (set(mounts) == set(volumes), f"volumes and mounts differ: {sorted(set(mounts) ^ set(volumes))}"),
        ("/tmp" in mounts.values(), "/tmp is not mounted"),
        (container["name"] != "finetune" or "/dev/shm" in mounts.values(), "/dev/shm is not mounted"),
        (":" in container["image"], "the image has no version"),
        (pod.get("automountServiceAccountToken") is False, "the pod gets a token of the cluster"),
        (pod.get("securityContext", {}).get("runAsNonRoot") is True, "the pod may run as root"),
        (pod.get("securityContext", {}).get("seccompProfile") == {"type": "RuntimeDefault"}, "no seccomp profile"),
        (security.get("allowPrivilegeEscalation") is False, "privileges can grow"),
        (security.get("capabilities") == {"drop": ["ALL"]}, "capabilities are kept"),
        (security.get("readOnlyRootFilesystem") is True, "the root file system can be written to"),
    )
    references = [f"ServiceAccount/{pod.get('serviceAccountName')}"]
    references += [f"ConfigMap/{each['configMap']['name']}" for each in volumes.values() if "configMap" in each]
    references += [
        f"PersistentVolumeClaim/{each['persistentVolumeClaim']['claimName']}"
        for each in volumes.values()
        if "persistentVolumeClaim" in each
    ]
    yield from (f"there is no {reference}" for reference in references if reference not in names)
    yield from (f"volume {name} is of several kinds or of none" for name, volume in volumes.items() if len(volume) != 2)
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and f"ConfigMap/{manifest['metadata']['name']}" in references:
            yield from _of_config(manifest, container, mounts)


def _of_config(config_map: Manifest, container: Manifest, mounts: dict[str, str]) -> Iterator[str]:
    settings = config.validate(yaml.safe_load(config_map["data"]["config.yaml"]))
    writable = [mounts.get("scratch", ""), "/tmp"]
    yield from _missing(
        (container["args"][:2] == ["train", f"{mounts.get('config')}/config.yaml"], "the job reads another config"),
        (any(str(settings.work_dir).startswith(each) for each in writable if each), "work_dir cannot be written to"),
        (bool(settings.data.uri and settings.output), "the config names no data or output"),
    )


def _of_deployment(deployment: Manifest, services: list[Manifest]) -> Iterator[str]:
    spec, (service,) = deployment["spec"], services
    labels = spec["template"]["metadata"]["labels"]
    (container,) = spec["template"]["spec"]["containers"]
    ports = {each["name"] for each in container["ports"]}
    probes = [container[kind]["httpGet"] for kind in ("readinessProbe", "livenessProbe")]
    yield from _missing(
        (spec["selector"]["matchLabels"] == labels, "the Deployment selects other pods"),
        (service["spec"]["selector"] == labels, "the Service selects other pods"),
        (service["spec"].get("type", "ClusterIP") == "ClusterIP", "TensorBoard asks nobody for a password"),
        ({each["targetPort"] for each in service["spec"]["ports"]} <= ports, "the Service has another port"),
        (all(each["port"] in ports and each["path"] == "/" for each in probes), "TensorBoard answers at / alone"),
        ("--host=0.0.0.0" in container["args"], "the Service cannot reach it"),
    )
