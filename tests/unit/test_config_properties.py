"""Whatever a valid config is, it comes back from YAML as it was; whatever key is unknown, its whole path is named."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from job import config
from job.config import Config
from job.config.settings import Section
from job.errors import ConfigError

Tree = dict[str, Any]
Where = tuple[tuple[str, ...], type[Section]]
"""A section and its path."""
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
"""No lone surrogates: a file in UTF-8 has none."""


def sections(section: type[Section] = Config, path: tuple[str, ...] = ()) -> list[Where]:
    """Returns every section of the config with its path."""
    found = [(path, section)]
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            found += sections(field.annotation, (*path, name))
    return found


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def values(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    """Returns the values that a field of this type may have, by its own limits."""
    origin = get_origin(annotation)
    if is_section(annotation):
        return trees(annotation)
    if hasattr(annotation, "__metadata__"):
        return values(get_args(annotation)[0], [*limits, *annotation.__metadata__])
    if origin is Literal:
        return st.sampled_from(get_args(annotation))
    if origin in (Union, types.UnionType):
        return st.one_of(*(values(each, limits) for each in get_args(annotation)))
    if origin is tuple:
        return st.lists(st.integers(0, 99), min_size=2, max_size=2).map(sorted)
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is str:
        pattern = next((found for each in unpacked(limits) if (found := getattr(each, "pattern", None))), None)
        return st.from_regex(pattern, fullmatch=True) if pattern else TEXTS
    if annotation in (int, float):
        return numbers(annotation, unpacked(limits))
    pytest.fail(f"no strategy for {annotation}: teach this test the type of the new setting")


def unpacked(limits: list[Any]) -> list[Any]:
    """Returns the limits, those in a pydantic Field among them."""
    return [one for each in limits for one in (each.metadata if isinstance(each, FieldInfo) else [each])]


def numbers(kind: type, limits: list[Any]) -> st.SearchStrategy[Any]:
    low: Any = next((getattr(each, "ge", getattr(each, "gt", None)) for each in limits if is_lower(each)), 0)
    high: Any = next((getattr(each, "le", getattr(each, "lt", None)) for each in limits if is_upper(each)), low + 10**6)
    excluded = {
        "exclude_min": any(isinstance(each, annotated_types.Gt) for each in limits),
        "exclude_max": any(isinstance(each, annotated_types.Lt) for each in limits),
    }
    return st.integers(low, high) if kind is int else st.floats(low, high, **excluded)


def is_lower(limit: Any) -> bool:
    return isinstance(limit, annotated_types.Ge | annotated_types.Gt)


def is_upper(limit: Any) -> bool:
    return isinstance(limit, annotated_types.Le | annotated_types.Lt)


def trees(section: type[Section]) -> st.SearchStrategy[Tree]:
    """Returns mappings of some of a section's keys to values that each is allowed."""
    fields = {name: values(field.annotation, list(field.metadata)) for name, field in section.model_fields.items()}
    drawn = st.fixed_dictionaries({}, optional=fields)
    if set(section.model_fields) == {"train", "validation", "test"}:
        return st.floats(0.0, 0.5).flatmap(
            lambda test: st.floats(0.0, 0.5).map(
                lambda validation: {"train": 1 - validation - test, "validation": validation, "test": test}
            )
        )
    return drawn


def valid(tree: Tree) -> Config:
    try:
        return config.validate(tree)
    except ConfigError as error:
        # What two settings may not be together is left; each by itself is allowed.
        assume("must be" not in str(error))
        raise


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(trees(Config))
def test_any_valid_config_comes_back_from_its_yaml(tree: Tree) -> None:
    loaded = valid(tree)
    assert config.validate(config.parse(config.to_yaml(loaded), name="config.yaml")) == loaded
    assert config.validate(yaml.safe_load(yaml.safe_dump(tree))) == loaded


@given(st.sampled_from(sections()), st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.data())
def test_an_unknown_key_anywhere_is_refused_with_its_dotted_path(where: Where, key: str, data: st.DataObject) -> None:
    path, section = where
    assume(key not in section.model_fields)
    tree: Tree = {key: data.draw(st.sampled_from([1, None, "x", [], {}]))}
    for name in reversed(path):
        tree = {name: tree}
    dotted = ".".join((*path, key))
    with pytest.raises(ConfigError) as error:
        config.validate(tree)
    assert f"  {dotted}: unknown key." in str(error.value)
    with pytest.raises(ConfigError) as error:
        config.load(None, [f"{dotted}=1"])
    assert f"  {dotted}: unknown key." in str(error.value)
    for known in section.model_fields:
        assert known in str(error.value)


def test_every_section_is_tried() -> None:
    assert {".".join(path) for path, _ in sections()} >= {"", "data", "data.split", "train.finetune", "telemetry"}
