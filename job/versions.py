"""What a run was made with: the versions that decide its numbers."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from job import __version__


def versions() -> dict[str, str]:
    """Returns name → version; the image's digest where the container was told of it (FINETUNE_IMAGE)."""
    found = {"finetune-job": __version__, "python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy", "pillow")}
    if image := os.environ.get("FINETUNE_IMAGE"):
        found["image"] = image
    return found
