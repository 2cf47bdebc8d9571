"""No file can make the job run what it holds: nothing is unpickled, and YAML is data.

Worker processes get their work by pickle from their own parent (multiprocessing); that is no file, and not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = [
    path
    for path in (REPOSITORY / "scripts").rglob("*")
    if path.suffix == ".py" or (path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python"))
]
FILES = sorted([*(REPOSITORY / "job").rglob("*.py"), *SCRIPTS])

UNPICKLING = frozenset({"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"})
YAML_LOADERS = frozenset({"load", "full_load", "unsafe_load"}) | {"load_all", "full_load_all", "unsafe_load_all"}
RUNNING = frozenset({"eval", "exec", "read_pickle", "enable_unsafe_deserialization"})
UNSAFE_ARGUMENTS = {"allow_pickle": True, "safe_mode": False}
"""`numpy.load` and `keras.models.load_model` are safe unless told otherwise."""


def offences(text: str) -> Iterator[str]:
    """Yields what in a source text could run what a file holds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (f"line {node.lineno}: {alias.name}" for alias in node.names if is_unpickling(alias.name))
        elif isinstance(node, ast.ImportFrom):
            refused = YAML_LOADERS if node.module == "yaml" else frozenset()
            names = [alias.name for alias in node.names if alias.name in refused or is_unpickling(node.module or "")]
            yield from (f"line {node.lineno}: {name} of {node.module}" for name in names)
        elif isinstance(node, ast.Call) and is_unsafe(node):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def is_unpickling(module: str) -> bool:
    return module.split(".")[0] in UNPICKLING


def is_unsafe(call: ast.Call) -> bool:
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if (owner == "yaml" and name in YAML_LOADERS) or (name in RUNNING and not (owner and name in ("eval", "exec"))):
        return True
    told = {argument.arg: argument.value for argument in call.keywords if argument.arg in UNSAFE_ARGUMENTS}
    # What is not said in so many words may be unsafe.
    return any(not isinstance(it, ast.Constant) or it.value is UNSAFE_ARGUMENTS[str(key)] for key, it in told.items())


def test_nothing_that_a_file_holds_is_run() -> None:
    found = [f"{file}, {offence}" for file in FILES for offence in offences(file.read_text(encoding="utf-8"))]
    assert not found, "Read it as data (JSON, .npy without pickle, yaml.safe_load):\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    import joblib",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "from yaml import full_load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=is_old)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "pandas.read_pickle(path)",
        "eval(text)",
    ],
)
def test_what_could_run_a_file_is_found(line: str) -> None:
    assert list(offences(line))


@pytest.mark.parametrize(
    "line",
    [
        "yaml.safe_load(text)",
        "np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=False)",
        "keras.models.load_model(path, safe_mode=True)",
        "json.load(file)",
        "model.eval()",
    ],
)
def test_what_cannot_is_not(line: str) -> None:
    assert not list(offences(line))


def test_every_source_is_looked_at() -> None:
    names = {file.relative_to(REPOSITORY).as_posix() for file in FILES}
    assert {"job/cli.py", "job/config/reading.py", "job/export/proof_script.py", "scripts/pretext_task.py"} <= names
    assert "scripts/pretrain-demo-backbone" in names
