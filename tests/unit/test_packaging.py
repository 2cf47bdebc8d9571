"""Holds pyproject.toml, the lock files, the wheel and the image to each other."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import job

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
OTHERS = {ROOT / "tests" / "sdks": 2, ROOT / "tests" / "checkov": 1}
"""Environments of their own: the folder of each, and how many packages it asks for."""
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS_OF = {
    "requirements.lock": ["s3", "az"],
    "requirements-gpu.lock": ["gpu", "s3", "az"],
    "requirements-dev.lock": ["dev"],
}
"""What scripts/lock resolves into each file, besides the dependencies themselves."""

NOT_DECLARED = {
    # pydantic pins its core to one exact version and gives out its error type.
    "pydantic_core",
}


def locked(lock: Path) -> dict[str, Requirement]:
    """Returns the pinned requirements of a lock file by canonical name."""
    lines = re.sub(r"\\\n", " ", lock.read_text(encoding="utf-8")).splitlines()
    pins = [
        Requirement(re.split(r"\s--hash", line)[0])
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    ]
    return {canonicalize_name(pin.name): pin for pin in pins}


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is not pinned"
    return specifier.version


def test_every_locked_file_has_a_hash_and_no_place() -> None:
    assert {lock.name for lock in LOCKS} == {*EXTRAS_OF, "requirements-build.lock"}
    for lock in (*LOCKS, *(folder / "requirements.lock" for folder in OTHERS)):
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"://|--index|--find-links|--trusted-host|(^|\s)/\w", text), f"{lock.name} names a place"
        for line in re.sub(r"\\\n", " ", text).splitlines():
            assert line.lstrip().startswith("#") or "--hash=sha256:" in line, f"{lock.name}: no hash: {line}"


@pytest.mark.parametrize("name", EXTRAS_OF)
def test_a_lock_satisfies_pyproject(name: str) -> None:
    pins = locked(ROOT / name)
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS_OF[name] for each in extras[extra])]
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{name} lacks {requirement}: run scripts/lock"
        assert version_of(pin) in requirement.specifier, f"{name} has {pin}, not {requirement}: run scripts/lock"


@pytest.mark.parametrize("folder", OTHERS, ids=lambda folder: folder.name)
def test_the_lock_of_another_environment_satisfies_what_was_asked_for(folder: Path) -> None:
    pins = locked(folder / "requirements.lock")
    wanted = [line for line in (folder / "requirements.in").read_text().splitlines() if not line.startswith("#")]
    assert len(wanted) == OTHERS[folder]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert version_of(pin) in requirement.specifier, f"it has {pin}, not {requirement}: run scripts/lock"


def test_locks_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, pin in locked(lock).items():
            versions.setdefault(name, set()).add(version_of(pin))
    assert not {name: found for name, found in versions.items() if len(found) > 1}


def test_every_package_the_job_imports_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    declared = [*PROJECT["project"]["dependencies"], *extras["s3"], *extras["az"]]
    names = {canonicalize_name(Requirement(each).name) for each in declared}
    provided = metadata.packages_distributions()
    for file in sorted((ROOT / "job").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for top in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"job"} - NOT_DECLARED:
                assert names & {canonicalize_name(each) for each in provided.get(top, [])}, f"{file}: {top}"


def test_the_wheel_ships_the_package_with_its_weights_and_nothing_else(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    shipped = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in shipped if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "job").rglob("*")
        # The interpreters of tests beside this one come and go in __pycache__.
        if "__pycache__" not in path.parts and not any(part.startswith(".") for part in path.parts) and path.is_file()
    }
    assert package == expected
    assert any(name.startswith("job/demo/") and name.endswith(".weights.h5") for name in package)
    assert f"finetune_job-{job.__version__}.dist-info/METADATA" in shipped
    assert f"finetune_job-{job.__version__}.dist-info/licenses/LICENSE" in shipped


def test_versions_are_one() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"ARG VERSION={job.__version__}\n" in dockerfile
    assert f"## [{job.__version__}]" in changelog


def test_the_image_is_built_from_what_older_buildah_takes() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    steps = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert not re.search(r"<<|--link|--checksum", steps)
    assert 'ENTRYPOINT ["/opt/venv/bin/python", "-m", "job"]' in steps
    assert steps.rstrip().endswith("USER 10001:10001"), "the last stage is the one that is built by default"


def test_the_image_copies_only_what_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for copy in copies for name in copy.split()]
    assert names
    assert [name for name in names if not any(Path(name).match(pattern) for pattern in sent)] == []
