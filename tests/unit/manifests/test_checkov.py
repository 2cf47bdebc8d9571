"""checkov, which knows the published security practices, on every overlay and on what `finetune render` prints.

It runs once over a folder with all of them, and with manifests that were spoilt: it has to find those.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from job import config
from job.render.kubernetes import Options, render
from tests.unit.manifests.kustomize import K8S, OVERLAYS, REPOSITORY, kustomize
from tests.unit.manifests.rules import Manifest
from tests.unit.manifests.test_rules import CONTAINER, POD, changed

PYTHON = REPOSITORY / ".tools" / "checkov" / "bin" / "python"

SKIPPED = {
    "CKV_K8S_11": "no CPU limit: it would throttle a job whose whole node is paid for; the request is its share",
    "CKV2_K8S_6": "no NetworkPolicy: which addresses the bucket, and the workers of a namespace, have is the cluster's",
    "CKV_K8S_21": "the default namespace: the user's to choose; `kubectl -n` and `--namespace` do",
    "CKV_K8S_43": "an image by tag: the user's to choose; `--image` takes a digest",
    "CKV_K8S_15": "not pulling always: of a tag that moves, the user's choice; gigabytes that the node has already",
}
"""The checks that are not kept, and why. The last three are kept where the user has chosen a namespace and a digest."""

CHOSEN = {"CKV_K8S_21", "CKV_K8S_43", "CKV_K8S_15"}

SPOILT: dict[str, tuple[str, Any, str]] = {
    "privileged": (f"{CONTAINER}.securityContext.privileged", True, "CKV_K8S_16"),
    "escalates": (f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True, "CKV_K8S_20"),
    "capabilities": (f"{CONTAINER}.securityContext.capabilities", {"add": ["SYS_ADMIN"]}, "CKV_K8S_39"),
    "writable": (f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "CKV_K8S_22"),
    "root": (f"{POD}.securityContext", {"runAsUser": 0, "runAsNonRoot": False}, "CKV_K8S_23"),
    "host-pid": (f"{POD}.hostPID", True, "CKV_K8S_17"),
    "host-network": (f"{POD}.hostNetwork", True, "CKV_K8S_19"),
    "latest": (f"{CONTAINER}.image", "registry/finetune-job:latest", "CKV_K8S_14"),
    "unlimited": (f"{CONTAINER}.resources", {"requests": {"cpu": "1", "memory": "1Gi"}}, "CKV_K8S_13"),
    "token": (f"{POD}.automountServiceAccountToken", True, "CKV_K8S_38"),
}
"""A change to the rendered Job, and the check that refuses it."""

RENDERED = {
    "render-plain": Options("registry/finetune-job:1", name="run"),
    "render-everything": Options("registry/finetune-job:1", 8, 2, True, queue="vision", bucket="photos", name="run"),
    "render-jobset": Options("registry/finetune-job:1", 8, 2, jobset=True, name="run"),
    "render-chosen": Options(f"registry/finetune-job@sha256:{'0' * 64}", 1, namespace="vision", name="run"),
}


def printed(options: Options) -> list[Manifest]:
    return list(yaml.safe_load_all(render(config.load(K8S / "base" / "config.yaml"), options)))


def _jobs(manifests: list[Manifest]) -> list[Manifest]:
    """Returns a JobSet's Job as one of its own: checkov does not know what a JobSet is."""
    found = []
    for manifest in manifests:
        if manifest["kind"] == "JobSet":
            (workers,) = manifest["spec"]["replicatedJobs"]
            manifest = {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": manifest["metadata"],
                "spec": workers["template"]["spec"],
            }
        found.append(manifest)
    return found


def _checkov(folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """Returns the failed checks of every manifest; nothing is downloaded, and nothing sent."""
    if not PYTHON.is_file():
        reason = "checkov is not installed: scripts/setup-checkov"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        # All that it would ask the world for comes here, and is seen.
        nobody.setblocking(False)
        way_out = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), way_out)
        # It asks PyPI for a newer checkov, unless its cache says that it did lately: an empty cache, so that a question
        # would be seen each time.
        quiet = {"CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "XDG_CACHE_HOME": str(scratch)}
        options = ["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json"]
        done = subprocess.run(
            [PYTHON, "-m", "checkov.main", "--directory", folder, *options],
            env={
                **{name: value for name, value in os.environ.items() if name.lower() != "no_proxy"},
                **proxies,
                **quiet,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        with pytest.raises(BlockingIOError):
            nobody.accept()
    # 1: something was found. SKIPPED always is.
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    failed: list[dict[str, Any]] = report["results"]["failed_checks"]
    return failed


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Returns the checks that failed, by the name of the overlay, of the render or of what was spoilt."""
    folder = tmp_path_factory.mktemp("manifests")
    found = {
        **{overlay.name: kustomize(overlay) for overlay in OVERLAYS},
        "tensorboard": kustomize(K8S / "tensorboard"),
        **{name: _jobs(printed(options)) for name, options in RENDERED.items()},
        **{
            f"spoilt-{name}": changed(printed(RENDERED["render-plain"]), keys, value)
            for name, (keys, value, _) in SPOILT.items()
        },
    }
    for name, manifests in found.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(manifests))
    checks: dict[str, set[str]] = defaultdict(set)
    for each in _checkov(folder, tmp_path_factory.mktemp("scratch")):
        checks[Path(each["file_path"]).stem].add(each["check_id"])
    return checks


@pytest.mark.parametrize("name", [*(overlay.name for overlay in OVERLAYS), "tensorboard", *RENDERED])
def test_a_manifest_keeps_every_check_but_those_that_are_skipped_for_a_reason(
    name: str, failed: Mapping[str, set[str]]
) -> None:
    # None is skipped for nothing, either.
    assert failed[name] == set(SKIPPED) - (CHOSEN if name == "render-chosen" else set())


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_spoilt_is_refused(name: str, failed: Mapping[str, set[str]]) -> None:
    check = SPOILT[name][2]
    assert check not in SKIPPED
    assert check in failed[f"spoilt-{name}"]
