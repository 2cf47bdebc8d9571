"""Kustomize's base and components put together without kustomize, so that the manifests have one source.

Only what the files in `k8s/` use: resources, labels, strategic merge patches and the JSON patches `add` and `replace`.
Tests compare the result with `kubectl kustomize`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

TEMPLATES = Path(__file__).parent / "k8s"

_KEYS = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
"""What identifies the items of a list that is merged; other lists are replaced.

Source: the x-kubernetes-patch-merge-key of each field in Kubernetes' OpenAPI description.
"""


def assemble(components: list[str]) -> list[Manifest]:
    """Returns the manifests of `k8s/base` with the components added, in order."""
    base = TEMPLATES / "base"
    kustomization = _read(base / "kustomization.yaml")
    manifests = [_read(base / name) for name in kustomization["resources"]]
    for labels in kustomization["labels"]:
        for manifest in manifests:
            _add_labels(manifest, labels["pairs"])
            if "template" in manifest.get("spec", {}):
                _add_labels(manifest["spec"]["template"], labels["pairs"])
    for name in components:
        folder = TEMPLATES / "components" / name
        kustomization = _read(folder / "kustomization.yaml")
        manifests += [_read(folder / each) for each in kustomization.get("resources", [])]
        for patch in kustomization["patches"]:
            manifests = [
                _patched(each, patch, folder) if each["kind"] == patch["target"]["kind"] else each for each in manifests
            ]
    return manifests


def _read(path: Path) -> Manifest:
    document: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def _add_labels(manifest: Manifest, labels: dict[str, str]) -> None:
    manifest.setdefault("metadata", {}).setdefault("labels", {}).update(labels)


def _patched(manifest: Manifest, patch: dict[str, Any], folder: Path) -> Manifest:
    if "path" in patch:
        merged = merge(manifest, _read(folder / patch["path"]))
        # A patch is for all manifests of its kind, whatever they are called.
        merged["metadata"]["name"] = manifest["metadata"]["name"]
        return merged
    changed = copy.deepcopy(manifest)
    for operation in yaml.safe_load(patch["patch"]):
        _apply(changed, operation)
    return changed


def merge(into: Manifest, patch: Manifest) -> Manifest:
    """Returns a strategic merge: mappings by key, lists of named things by name; null and `$patch: delete` remove."""
    merged = dict(into)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(merged.get(key) or {}, value)
        elif isinstance(value, list) and key in _KEYS:
            merged[key] = _merge_items(merged.get(key) or [], value, _KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_items(into: list[Manifest], patches: list[Manifest], key: str) -> list[Manifest]:
    items = {item[key]: item for item in into}
    for patch in patches:
        if patch.get("$patch") == "delete":
            items.pop(patch[key], None)
        else:
            items[patch[key]] = merge(items.get(patch[key], {}), patch)
    return list(items.values())


def _apply(manifest: Manifest, operation: dict[str, Any]) -> None:
    """Applies one operation of a JSON patch (RFC 6902)."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    node: Any = manifest
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert operation["op"] in ("add", "replace"), operation
    if last == "-":
        node.append(operation["value"])
    else:
        node[last] = operation["value"]
