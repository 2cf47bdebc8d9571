"""What `finetune render kubernetes` prints is run by `podman kube play`: no cluster, but its pod, volumes and user.

What differs from what `kubectl apply` sends is in `played`, with its reason.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from job import config
from job.render.kubernetes import Options, render
from job.storage import Store
from tests.image.containers import TINY, Ended, Podman


def played(manifests: list[dict[str, Any]], store: str) -> list[dict[str, Any]]:
    """Returns the ConfigMap as it is, and the Job's pod template as a Pod."""
    of_kind = {manifest["kind"]: manifest for manifest in manifests}
    job = of_kind["Job"]
    template = job["spec"]["template"]
    # podman 4.3 knows no Job; its controller makes pods of the template, and labels them.
    name = job["metadata"]["name"]
    labels = {**template["metadata"].get("labels", {}), "batch.kubernetes.io/job-name": name}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": name, "labels": labels},
        "spec": template["spec"],
    }
    # The bucket is an emulator on this machine's loopback; the command's --network=host reaches it.
    (container,) = pod["spec"]["containers"]
    container["env"].append({"name": "STORAGE_EMULATOR_HOST", "value": store})
    # Kubernetes gives an emptyDir to the pod's group; podman 4.3 knows no fsGroup, and what the image has at the place
    # of a mount, as it has /dev/shm, keeps its owner: root. Podman's own /dev/shm serves.
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["mountPath"] != "/dev/shm"]
    pod["spec"]["volumes"] = [each for each in pod["spec"]["volumes"] if each["name"] != "shared-memory"]
    return [of_kind["ConfigMap"], pod]


@pytest.fixture
def play(podman: Podman, image: str, object_store: str, tmp_path: Path) -> Any:
    """Returns a function that plays a run's manifests to their end."""

    def play(output: str, *changes: str, data: str = "gs://photos/parts") -> Ended:
        given = config.load(overrides=(*TINY, *changes), values={"data.uri": data, "output": output})
        name = output.rpartition("/")[2]
        manifests = list(yaml.safe_load_all(render(given, Options(image, name=name))))
        file = tmp_path / "pod.yaml"
        file.write_text(yaml.safe_dump_all(played(manifests, object_store)))
        try:
            podman("kube", "play", "--network=host", str(file))
            container = f"{name}-finetune"
            code = int(podman("wait", container).stdout)
            inspected = json.loads(podman("inspect", container).stdout)[0]
            assert inspected["Config"]["User"] == "10001:10001"
            assert inspected["HostConfig"]["ReadonlyRootfs"] is True
            assert inspected["EffectiveCaps"] in (None, [])
            logs = podman("logs", container)
            return Ended(code, logs.stdout, logs.stderr)
        finally:
            podman("kube", "down", str(file), check=False)
            podman("volume", "prune", "--force", check=False)

    return play


def test_the_rendered_pod_trains_from_the_bucket_to_the_bucket(play: Any, runs: Store) -> None:
    ended = play("gs://runs/played", "train.preset=fast")
    assert ended.code == 0, ended.stderr
    assert ended.events[-1]["message"].startswith("Done")
    report = json.loads(runs.read("played/report.json"))
    assert report["accepted"] is True
    assert report["data"]["num_images"] == 60 + 5


def test_what_the_failure_policy_fails_at_once_ends_with_its_code(play: Any) -> None:
    ended = play("gs://runs/refused", data="gs://photos/nothing")
    assert ended.code == 66, ended.stderr
    assert "gs://photos/nothing" in ended.error["message"]
