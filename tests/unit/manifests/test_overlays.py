"""What `kubectl kustomize` makes of the base with each component and of every overlay, offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from job import config
from job.render.assemble import assemble
from job.render.kubernetes import Options, render
from tests.unit.manifests.kustomize import COMPONENTS, K8S, OVERLAYS, REPOSITORY, kustomize
from tests.unit.manifests.rules import Manifest, faults

KUBERNETES_VERSIONS = ("1.31", "1.33", "1.37")
"""podFailurePolicy is stable from 1.31 on."""

NAMED = ("containers", "volumes", "env", "volumeMounts", "tolerations")
"""Lists whose order has no meaning."""

GPU_IMAGE = "YOUR_REGISTRY/finetune-job:0.1.0"
EQUAL: dict[str, Options] = {
    "gpu-1": Options(GPU_IMAGE, gpus=1, name="finetune-1"),
    "gpu-4": Options(GPU_IMAGE, gpus=4, name="finetune-4"),
    "multi-node": Options(GPU_IMAGE, gpus=1, nodes=2, name="finetune-2-nodes"),
    "gke-spot": Options(
        GPU_IMAGE,
        gpus=1,
        spot=True,
        node_labels=("cloud.google.com/gke-accelerator=nvidia-l4",),
        google_account="YOUR_SERVICE_ACCOUNT@YOUR_PROJECT.iam.gserviceaccount.com",
        name="finetune-spot",
    ),
}
"""What `finetune render` takes to print the same as an overlay."""


def in_order(node: Any, key: str = "") -> Any:
    if isinstance(node, dict):
        # Where the last item was removed kustomize leaves an empty list and we do too; it means the same as none.
        return {name: in_order(value, name) for name, value in node.items() if value != []}
    if isinstance(node, list):
        items = [in_order(each) for each in node]
        return sorted(items, key=lambda item: sorted(item.items(), key=str).__repr__()) if key in NAMED else items
    return node


def by_kind(manifests: list[Manifest], *, config_map: str | None = None) -> dict[str, Any]:
    """Returns manifests in one order, the ConfigMap's name, which kustomize makes from its content, replaced."""
    found = {}
    for manifest in manifests:
        text = yaml.safe_dump(manifest)
        found[manifest["kind"]] = in_order(
            yaml.safe_load(re.sub(r"finetune-config(-[a-z0-9]{10})?", config_map or "finetune-config", text))
        )
    return found


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Manifest]]:
    return {overlay.name: kustomize(overlay) for overlay in OVERLAYS}


def overlays(test: Any) -> Any:
    return pytest.mark.parametrize("name", [overlay.name for overlay in OVERLAYS])(test)


def test_the_overlays_are_these() -> None:
    assert {overlay.name for overlay in OVERLAYS} == {"cpu-local", *EQUAL}


@overlays
def test_overlays_are_what_the_cluster_takes(name: str, rendered: dict[str, list[Manifest]]) -> None:
    assert rendered[name], "nothing was rendered"
    for manifest in rendered[name]:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@overlays
def test_overlays_keep_every_rule(name: str, rendered: dict[str, list[Manifest]]) -> None:
    assert faults(rendered[name]) == []
    job = next(manifest for manifest in rendered[name] if manifest["kind"] == "Job")
    assert job["metadata"]["name"] != "finetune", "an overlay names its run"
    kinds = {manifest["kind"] for manifest in rendered[name]}
    assert kinds == {"ConfigMap", "Job", "ServiceAccount"} | ({"Service"} if name == "multi-node" else set())


@pytest.mark.parametrize("name", EQUAL)
def test_render_prints_what_an_overlay_is(name: str, rendered: dict[str, list[Manifest]]) -> None:
    options = EQUAL[name]
    settings = config.load(K8S / "base" / "config.yaml")
    ours = by_kind(list(yaml.safe_load_all(render(settings, options))))
    theirs = by_kind(rendered[name], config_map=options.name)
    texts = [each.pop("ConfigMap")["data"]["config.yaml"] for each in (ours, theirs)]
    assert ours == theirs
    assert config.validate(yaml.safe_load(texts[0])) == config.validate(yaml.safe_load(texts[1]))


@pytest.mark.parametrize(
    "components",
    [[], *([path.name] for path in COMPONENTS), [path.name for path in COMPONENTS]],
    ids=lambda names: "+".join(names) or "base",
)
def test_components_are_put_together_as_kustomize_does(components: list[str], tmp_path: Path) -> None:
    # Kustomize takes relative folders alone.
    up = "../" * len(tmp_path.resolve().parts[1:]) + K8S.resolve().relative_to("/").as_posix()
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}/base"],
        "components": [f"{up}/components/{name}" for name in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    theirs = by_kind(kustomize(tmp_path))
    for manifest in theirs.values():
        kubernetes_validate.validate(manifest, KUBERNETES_VERSIONS[0], strict=True)
    del theirs["ConfigMap"]
    assert by_kind(assemble(components)) == theirs


def test_tensorboard_is_what_the_cluster_takes_and_keeps_every_rule() -> None:
    found = kustomize(K8S / "tensorboard")
    for manifest in found:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSIONS[0], strict=True)
    assert faults(found, there=("ServiceAccount/finetune",)) == []


def test_the_claim_is_the_one_the_component_uses_and_no_part_of_it() -> None:
    folder = K8S / "components" / "checkpoints-pvc"
    claim = yaml.safe_load((folder / "claim.yaml").read_text())
    kubernetes_validate.validate(claim, KUBERNETES_VERSIONS[0], strict=True)
    patch = yaml.safe_load((folder / "patch.yaml").read_text())
    (volume,) = patch["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert "resources" not in yaml.safe_load((folder / "kustomization.yaml").read_text())


def test_users_find_the_manifests_at_the_top() -> None:
    assert (REPOSITORY / "k8s").resolve() == K8S
