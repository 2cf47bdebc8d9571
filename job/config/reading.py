"""From a YAML file and `--set a.b=c` to a checked `Config`, or one error that names every fault.

Unknown keys are refused with the nearest known one. YAML is read with `safe_load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from job.config.settings import Config, Section
from job.errors import ConfigError, InputMissingError, nearest


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads the YAML file, applies the overrides and checks everything.

    Args:
        path: A YAML file, or None for the defaults.
        overrides: `a.b=c` each, c in YAML; later ones win.

    Raises:
        InputMissingError: When there is no such file.
        ConfigError: When it is not YAML, a key is unknown or a value not allowed; names every one.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputMissingError(
                f"There is no config file {str(path)!r}.",
                next_step="Check the path, or write one with `finetune config > config.yaml`.",
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The config file {str(path)!r} cannot be read: {error}.") from error
        tree = parse(text, name=str(path))
    for override in overrides:
        _apply(tree, override)
    return validate(tree)


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


def validate(tree: Mapping[str, Any]) -> Config:
    """Returns the typed config of a nested mapping, or raises one ConfigError that names every fault."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(detail)}" for detail in error.errors())
        raise ConfigError(
            f"The config has {error.error_count()} fault(s):\n{faults}",
            next_step="`finetune config` prints every key with its default and meaning.",
        ) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"--set takes a.b=c, but received {override!r}.", next_step="Write, for example, --set train.seed=7."
        )
    *sections, leaf = key.strip().split(".")
    node = tree
    for section in sections:
        child = node.get(section)
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section.")
        node = child
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML: {error}.") from error


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "config"
    if detail["type"] == "extra_forbidden":
        *parents, leaf = detail["loc"]
        known = _section(parents).model_fields
        return f"{key}: unknown key.{nearest(str(leaf), known)} Known here: {', '.join(known)}."
    return f"{key}: {detail['msg']}; received {detail['input']!r}."


def _section(parents: Sequence[int | str]) -> type[Section]:
    section: type[Section] = Config
    for name in parents:
        annotation = section.model_fields[str(name)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, Section)
        section = annotation
    return section
