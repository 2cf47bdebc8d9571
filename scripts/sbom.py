"""Prints what an environment consists of, as a CycloneDX 1.6 document: Python, its packages, the system's packages.

Runs while the image is built, with the image's own Python and the standard library alone, so that it lists what is
really installed, not what a lock file asks for. The same installation gives the same bytes.
Source: cyclonedx.org/docs/1.6/json, github.com/package-url/purl-spec (types pypi, deb, generic).
"""

from __future__ import annotations

import json
import platform
import re
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG_STATUS = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")
APPLICATION = "finetune-job"

Component = dict[str, Any]


def document(packages: list[metadata.Distribution], dpkg_status: str, os_release: str) -> dict[str, Any]:
    """Returns the CycloneDX document; `finetune-job` is what it describes, everything else a component."""
    found = [python_component(package) for package in packages]
    described = next((one for one in found if one["name"] == APPLICATION), {"name": APPLICATION})
    system = {"type": "library", "name": "python", "version": platform.python_version()}
    system |= {"purl": f"pkg:generic/python@{system['version']}"}
    components = [one for one in found if one is not described]
    components += [system, *debian_components(dpkg_status, os_release)]
    components = sorted(({"bom-ref": one["purl"], **one} for one in components), key=lambda one: one["purl"])
    content = json.dumps([described, components])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {**described, "type": "application"}},
        "components": components,
    }


def python_component(package: metadata.Distribution) -> Component:
    """Returns a Python package; its name as the package index writes it (PEP 503)."""
    name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
    component = {"type": "library", "name": name, "version": package.version}
    component |= {"purl": f"pkg:pypi/{name}@{quote(package.version)}"}
    fields = package.metadata
    if expression := fields.get("License-Expression"):
        component["licenses"] = [{"expression": expression}]
    else:
        prefix = "License :: "
        classified = [one.rsplit(" :: ", 1)[-1] for one in fields.get_all("Classifier") or () if one.startswith(prefix)]
        # Some packages put the whole text of the license into this field.
        short = [text for text in [fields.get("License") or ""] if 0 < len(text) <= 80 and "\n" not in text]
        if names := classified or short:
            component["licenses"] = [{"license": {"name": name}} for name in names]
    return component


def debian_components(dpkg_status: str, os_release: str) -> Iterator[Component]:
    """Yields the installed packages of dpkg's database, /var/lib/dpkg/status."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    distro = release.get("ID", "debian")
    for paragraph in dpkg_status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.+)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            where = f"arch={fields['Architecture']}&distro={distro}-{release.get('VERSION_ID', 'unknown')}"
            purl = f"pkg:deb/{distro}/{quote(fields['Package'])}@{quote(fields['Version'])}?{where}"
            yield {"type": "library", "name": fields["Package"], "version": fields["Version"], "purl": purl}


if __name__ == "__main__":
    texts = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in (DPKG_STATUS, OS_RELEASE)]
    json.dump(document(list(metadata.distributions()), *texts), sys.stdout, indent=1)
