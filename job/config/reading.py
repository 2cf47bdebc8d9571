"""From a YAML file and `--set a.b=c` to a checked `Config`, or one error that names every fault.

Unknown keys are refused with the nearest known one. YAML is read with `safe_load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from job.config.settings import Config, Section
from job.errors import AccessError, ConfigError, InputMissingError, nearest


def load(
    path: Path | None = None, overrides: Sequence[str] = (), *, values: Mapping[str, object] | None = None
) -> Config:
    """Reads the YAML file, applies the overrides and checks everything.

    Args:
        path: A YAML file, or None for the defaults.
        overrides: `a.b=c` each, c in YAML; later ones win.
        values: By dotted key, taken as they are; they win over all others.

    Raises:
        InputMissingError: When there is no such file.
        AccessError: When it may not be read.
        ConfigError: When it is not YAML, a key is unknown or a value not allowed; names every one.
    """
    tree = {} if path is None else parse(_text(path), name=str(path))
    for override in overrides:
        key, value = _parse_override(override)
        _put(tree, key, value)
    for key, value in (values or {}).items():
        _put(tree, key, value)
    return validate(tree)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputMissingError(
            f"There is no config file {str(path)!r}.",
            next_step="Check the path, or write one with `finetune config > config.yaml`.",
        ) from error
    except PermissionError as error:
        raise AccessError(
            f"The config file {str(path)!r} may not be read by this user.", next_step="Change its permissions."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The config file {str(path)!r} cannot be read: {error}.", next_step="Give a YAML file in UTF-8."
        ) from error


def parse(text: str, *, name: str) -> dict[str, Any]:
    """Returns the mapping in a YAML text; `name` is for the message of the ConfigError."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{name} is not valid YAML: {error}.", next_step="Compare it with `finetune config`."
        ) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{name} holds a {type(tree).__name__}, but a config is a mapping of sections.",
            next_step="Compare it with `finetune config`.",
        )
    return tree


def validate(tree: Mapping[str, Any], *, name: str = "The config") -> Config:
    """Returns the typed config of a nested mapping, or raises one ConfigError that names every fault."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = [_explain(detail) for detail in error.errors()]
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(
            f"{name} has {count}:\n" + "\n".join(f"  {fault}" for fault in faults),
            next_step="`finetune config` prints every key with its default and meaning.",
        ) from error


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set takes a.b=c, but received {override!r}.", next_step="Write, for example, --set train.seed=7."
        )
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override!r}: the value is not valid YAML: {error}.", next_step="Put the value in quotes."
        ) from error


def _put(tree: dict[str, Any], key: str, value: object) -> None:
    *sections, leaf = key.split(".")
    node = tree
    for section in sections:
        child = node.get(section)
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"{key} cannot be set: {section!r} is {child!r} in the file, and a section is needed.",
                next_step="Compare the file with `finetune config`.",
            )
        node = child
    node[leaf] = value


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "config"
    received = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            *parents, leaf = detail["loc"]
            known = _section(parents).model_fields
            return f"{key}: unknown key.{nearest(str(leaf), known)} Known here: {', '.join(known)}."
        case "model_type":
            known = _section(detail["loc"]).model_fields
            return f"{key}: is a section, with the keys {', '.join(known)}; received {received!r}."
        case "literal_error":
            choices = re.findall(r"'([^']*)'", detail["msg"])
            return f"{key}: {detail['msg']}; received {received!r}.{nearest(str(received), choices)}"
        case "value_error":
            return f"{key}: {detail['ctx']['error']}."
        case _:
            return f"{key}: {detail['msg']}; received {received!r}."


def _section(parents: Sequence[int | str]) -> type[Section]:
    section: type[Section] = Config
    for name in parents:
        annotation = section.model_fields[str(name)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, Section)
        section = annotation
    return section
