"""From a `Config` to text: the resolved YAML of a run, the annotated defaults, the JSON Schema."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import yaml

from job.config.settings import Config, Section
from job.masking import masked_tree


def to_yaml(config: Config) -> str:
    """Returns the config as plain YAML that `load` reads back to the same config, secrets masked."""
    # In ASCII: PyYAML writes some line breaks of Unicode (U+0085) in a way that it reads back as spaces.
    return yaml.safe_dump(masked_tree(config.model_dump(mode="json")), sort_keys=False)


def annotated_yaml() -> str:
    """Returns the defaults as YAML, the meaning of each key in a comment above it."""
    return "\n".join(_annotate(Config(), indent=0)).lstrip() + "\n"


def _annotate(section: Section, *, indent: int) -> list[str]:
    pad = "  " * indent
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            lines += ["", f"{pad}{name}:", *_annotate(value, indent=indent + 1)]
            continue
        if field.description:
            lines += [f"{pad}# {line}" for line in field.description.splitlines()]
        if choices := _choices(field.annotation):
            lines.append(f"{pad}# One of: {', '.join(choices)}.")
        lines.append(
            f"{pad}{name}: {'null' if value is None else yaml.safe_dump(value).strip().removesuffix('...').strip()}"
        )
    return lines


def _choices(annotation: Any) -> tuple[str, ...]:
    """Returns the words of a Literal, also of one that may be None; none where something else is allowed as well."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    allowed = [each for each in get_args(annotation) if each is not type(None)]
    return get_args(allowed[0]) if len(allowed) == 1 and get_origin(allowed[0]) is Literal else ()


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of the config, for editors."""
    return Config.model_json_schema()
