"""The packages of the Azurite that tests talk to: all pinned by content, from no host in particular."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "servers" / "azurite"


def test_every_package_is_pinned_by_its_content_and_by_no_host() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 100
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not [name for name, package in packages.items() if "resolved" in package]
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    assert lock["packages"]["node_modules/azurite"]["version"] == wanted["azurite"]
