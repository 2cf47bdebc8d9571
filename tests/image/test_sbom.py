"""The bill of materials, without an image."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

from tests.image.containers import REPOSITORY

DPKG = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12+deb13u5

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1:2.0-1
"""
PROGRAM = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("sbom", "scripts/sbom.py")
sbom = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sbom)
packages = list(sbom.metadata.distributions())
print(json.dumps(sbom.document(packages, {DPKG!r}, 'ID=debian\\nVERSION_ID="13"\\n')))
"""


def _document() -> bytes:
    return subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, check=True).stdout


def test_it_names_what_is_installed_once_and_the_same_way_every_time() -> None:
    text = _document()
    assert text == _document()
    document = json.loads(text)
    references = [one["bom-ref"] for one in document["components"]]
    assert len(references) == len(set(references))
    assert f"pkg:pypi/tensorflow@{metadata.version('tensorflow')}" in references
    # PEP 503: the index writes it with a dash.
    assert f"pkg:pypi/ml-dtypes@{metadata.version('ml_dtypes')}" in references
    assert document["metadata"]["component"]["name"] == "finetune-job"


def test_of_the_systems_packages_it_names_the_installed_ones() -> None:
    found = [one["purl"] for one in json.loads(_document())["components"] if one["purl"].startswith("pkg:deb")]
    assert found == ["pkg:deb/debian/libc6@2.41-12%2Bdeb13u5?arch=amd64&distro=debian-13"]
