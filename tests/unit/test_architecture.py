"""Holds the walls of the project: imports go down, TensorFlow stays out where it is not needed, rooms stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "job"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("demo", "planning", "render"),
    ("checking", "platform_report", "run", "serving", "watching"),
    ("stages",),
    ("dataset", "evaluation", "export", "model", "training", "workspace"),
    ("fence", "lease", "status"),
    ("storage",),
    ("cluster", "config", "console", "interruption", "platforms", "quiet", "rundir", "timings", "versions"),
    ("errors", "malloc"),
    ("masking",),
)
"""Rooms from top to bottom; a room may import those below its own layer."""

SIDEWAYS: dict[str, tuple[str, ...]] = {
    "training": ("dataset", "evaluation", "model", "workspace"),
    "evaluation": ("dataset",),
    "export": ("dataset", "evaluation", "model"),
}
"""What a room may import from its own layer besides itself."""

TF_FREE = (
    "__init__.py",
    "__main__.py",
    "cli.py",
    "cluster/*.py",
    "config/*.py",
    "console.py",
    "dataset/__init__.py",
    "dataset/cores.py",
    "dataset/decode.py",
    "dataset/duplicates.py",
    "dataset/examine.py",
    "dataset/example.py",
    "dataset/geometry.py",
    "dataset/journal.py",
    "dataset/layouts/*.py",
    "dataset/likeness.py",
    "dataset/overdue.py",
    "dataset/pack.py",
    "dataset/prepare.py",
    "dataset/remote.py",
    "dataset/shards.py",
    "dataset/shares.py",
    "dataset/split.py",
    "dataset/summary.py",
    "dataset/survey.py",
    "dataset/table.py",
    "dataset/workers.py",
    "demo/__init__.py",
    "demo/object_store/*.py",
    "errors.py",
    "evaluation/*.py",
    "fence.py",
    "interruption.py",
    "lease.py",
    "malloc.py",
    "masking.py",
    "model/__init__.py",
    "model/backbones.py",
    "planning/__init__.py",
    "planning/commands.py",
    "planning/estimate.py",
    "planning/table.py",
    "platform_report.py",
    "platforms/*.py",
    "quiet.py",
    "render/*.py",
    "rundir.py",
    "status.py",
    "storage/*.py",
    "timings.py",
    "training/__init__.py",
    "training/batch_search.py",
    "training/recipe.py",
    "versions.py",
    "watching.py",
    "workspace.py",
)
"""Modules that `--help`, `check` or a storage test load: they answer before TensorFlow could be imported."""

MAX_LINES = 300
REFUSED_NAMES = ("util", "helper", "common", "misc", "manager")


class Import(NamedTuple):
    """One imported module: `job.storage.gcs`, at line 7 of a file."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(REPOSITORY)}:{self.line}: imports {self.module}"


def imports_of(file: Path, text: str) -> Iterator[Import]:
    """Yields every import in a file of the package, wherever it stands, relative ones resolved."""
    package = file.parent.relative_to(REPOSITORY).parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            # `from job import storage` names the room after `import`; elsewhere the source is enough.
            names = [f"{source}.{alias.name}" for alias in node.names] if source in ("job", "google") else [source]
            yield from (Import(file, node.lineno, name) for name in names)


def room_of(module: str) -> str:
    """Returns the room below `job` that a module belongs to, or "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def layer_of(room: str) -> int:
    for depth, rooms in enumerate(LAYERS):
        if room in rooms:
            return depth
    pytest.fail(f"job/{room} has no place in LAYERS of {Path(__file__).name}: decide what it may import.")


def goes_down(importer: str, imported: str) -> bool:
    return (
        imported in ("", "__version__", importer)
        or layer_of(imported) > layer_of(importer)
        or imported in SIDEWAYS.get(importer, ())
    )


def offences(file: Path, text: str) -> list[str]:
    importer = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if importer == "__init__":
        return [str(found) for found in imports_of(file, text) if found.module.split(".")[0] == "job"]
    return [
        f"{found} (job/{importer} is not above job/{room_of(found.module)})"
        for found in imports_of(file, text)
        if found.module.split(".")[0] == "job" and not goes_down(importer, room_of(found.module))
    ]


def test_imports_go_down() -> None:
    found = [offence for file in FILES for offence in offences(file, file.read_text(encoding="utf-8"))]
    assert not found, "Imports that do not go down:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("errors.py", "import job.config"),
        ("storage/gcs.py", "from job.dataset import split"),
        ("dataset/feed.py", "from job import training"),
        ("model/cut.py", "def f():\n    from job.training.loop import step"),
        ("storage/local.py", "from ..dataset import example"),
        ("config/reading.py", "from job.console import Console"),
        ("__init__.py", "from job.run import run"),
    ],
)
def test_an_import_that_goes_up_is_found(path: str, line: str) -> None:
    assert offences(PACKAGE / path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("training/loop.py", "from job.dataset.feed import Batch"),
        ("storage/gcs.py", "from .store import Store"),
        ("run.py", "from job import __version__, config, errors"),
        ("dataset/pack.py", "from job import dataset"),
    ],
)
def test_an_import_that_goes_down_is_allowed(path: str, line: str) -> None:
    assert not offences(PACKAGE / path, line)


@pytest.mark.parametrize(
    ("library", "name"), [("google.cloud", "gcs.py"), ("boto3", "s3.py"), ("azure.storage", "azure.py")]
)
def test_a_bucket_s_client_is_imported_by_one_file(library: str, name: str) -> None:
    found = [
        each
        for file in FILES
        for each in imports_of(file, file.read_text(encoding="utf-8"))
        if f"{each.module}.".startswith(f"{library}.")
    ]
    assert {each.file for each in found} == {PACKAGE / "storage" / name}, "\n".join(map(str, found))


def test_modules_that_need_no_tensorflow_do_not_load_it() -> None:
    paths = {file.relative_to(PACKAGE).as_posix() for file in FILES}
    stale = [pattern for pattern in TF_FREE if not any(fnmatchcase(path, pattern) for path in paths)]
    assert not stale, f"TF_FREE names files that are not there: {stale}"
    modules = [
        ".".join(("job", *Path(path).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(paths)
        if path != "__main__.py" and any(fnmatchcase(path, pattern) for pattern in TF_FREE)
    ]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'tensorflow', 'keras'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} imports {heavy}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_folder_is_a_package() -> None:
    missing = sorted({str(file.parent) for file in FILES if not (file.parent / "__init__.py").exists()})
    assert not missing, f"Without an __init__.py with its docstring: {missing}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_room_is_small_named_for_what_it_does_and_says_what_it_is_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES, f"{file} has more than {MAX_LINES} lines: it is two rooms."
    names = file.relative_to(PACKAGE).with_suffix("").parts
    assert not [name for name in names if any(refused in name for refused in REFUSED_NAMES)], f"{file}: say what for."
    assert ast.get_docstring(ast.parse(text)), f"{file} has no docstring."
