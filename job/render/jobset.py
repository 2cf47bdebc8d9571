"""A Job of several machines as a JobSet, which starts all of them again when one is lost.

Needs the JobSet controller in the cluster. Without it each pod ends with 75 by itself and is replaced, which does the
same with more waiting. Source: jobset.sigs.k8s.io/docs/concepts (v1alpha2).
"""

from __future__ import annotations

from job.render.assemble import Manifest

REPLICATED_JOB = "workers"
"""Its one Job is called <jobset>-workers-0."""

FINAL = ("PodFailurePolicy", "DeadlineExceeded")
"""Reasons of a Job's end after which another try does not help."""


def wrapped(manifests: list[Manifest]) -> list[Manifest]:
    """Returns the manifests with the Job inside a JobSet; the JobSet makes the Service itself.

    What fails a Job at once must fail the whole set: the codes of podFailurePolicy, and the deadline, which counts anew
    for every start of the set. Any other end of the Job starts the set again.
    """
    found = []
    for manifest in manifests:
        if manifest["kind"] == "Service":
            continue
        found.append(_jobset(manifest) if manifest["kind"] == "Job" else manifest)
    return found


def _jobset(job: Manifest) -> Manifest:
    name, spec = job["metadata"]["name"], dict(job["spec"])
    # Its tries are the set's: the first lost pod ends the Job, and the set starts all of them anew.
    tries, spec["backoffLimit"] = spec["backoffLimit"] // spec["completions"], 0
    outer = {key: spec.pop(key) for key in ("ttlSecondsAfterFinished", "suspend") if key in spec}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": job["metadata"],
        "spec": {
            **outer,
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": tries,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": list(FINAL)}],
            },
            "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": {"spec": spec}}],
        },
    }
