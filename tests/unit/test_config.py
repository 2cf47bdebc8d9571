"""The config is checked once, whole, before any work; its faults name their key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from job import config
from job.config import Config
from job.config.settings import Section
from job.errors import ConfigError, InputMissingError


def test_annotated_yaml_is_the_defaults() -> None:
    assert config.validate(yaml.safe_load(config.annotated_yaml())) == Config()


def test_every_setting_is_documented() -> None:
    def undocumented(section: type[Section], path: str) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, Section):
                found += undocumented(annotation, f"{path}{name}.")
            elif not field.description:
                found.append(path + name)
        return found

    assert undocumented(Config, "") == []


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"train\.sed: unknown key\. Did you mean 'seed'\?") as error:
        config.load(None, ["train.sed=3"])
    assert error.value.exit_code == 78
    assert "finetune config" in error.value.next_step


def test_several_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        config.load(None, ["train.batch=0", "train.precision=half", "data.max_bad=2"])
    for part in ("3 faults", "train.batch", "received 0", "train.precision", "'half'", "data.max_bad"):
        assert part in str(error.value)


def test_set_wins_over_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("train: {seed: 1, batch: 8}\n")
    loaded = config.load(path, ["train.seed=2", "train.seed=3", "train.head.learning_rate=1e-3"])
    assert (loaded.train.seed, loaded.train.batch, loaded.train.head.learning_rate) == (3, 8, 1e-3)


@pytest.mark.parametrize("override", ["train.seed", "=3", "train.seed.x=1"])
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        config.load(None, ["train.seed=1", override])


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"nowhere\.yaml") as error:
        config.load(tmp_path / "nowhere.yaml")
    assert "finetune config >" in error.value.next_step


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "3"])
def test_what_is_not_a_mapping_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        config.load(path)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    assert config.load(path) == Config()


def test_a_split_must_sum_to_one() -> None:
    with pytest.raises(ConfigError, match="sum"):
        config.load(None, ["data.split.train=0.9"])


def test_stored_images_are_not_smaller_than_the_models() -> None:
    with pytest.raises(ConfigError, match="stored_px"):
        config.load(None, ["data.image_px=96", "data.stored_px=64"])


@given(seed=st.integers(0, 2**31 - 1), rate=st.floats(1e-8, 1.0), uri=st.text(min_size=1, max_size=20))
def test_to_yaml_reads_back_the_same(seed: int, rate: float, uri: str) -> None:
    tree = {"train": {"seed": seed, "head": {"learning_rate": rate}}, "data": {"uri": uri}}
    loaded = config.validate(tree)
    assert config.validate(config.parse(config.to_yaml(loaded), name="config.yaml")) == loaded


def test_values_are_taken_as_they_are() -> None:
    uri = "s3://bucket/é: #1 😀\udcff"
    assert config.load(None, ["output=3: 4"], values={"output": uri}).output == uri


def test_a_misspelt_choice_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"train\.preset: .*received 'fats'\. Did you mean 'fast'\?"):
        config.load(None, ["train.preset=fats"])


def test_a_value_in_place_of_a_section_is_refused_with_its_keys() -> None:
    with pytest.raises(ConfigError, match=r"data\.split: is a section, with the keys train, validation, test"):
        config.load(None, ["data.split=0.8"])


def test_a_config_that_may_not_be_read_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"output: \xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        config.load(tmp_path / "latin.yaml")


def test_the_profiler_wants_a_range() -> None:
    assert config.load(None, ["telemetry.profile_steps=[2, 5]"]).telemetry.profile_steps == (2, 5)
    with pytest.raises(ConfigError, match="first <= last"):
        config.load(None, ["telemetry.profile_steps=[5, 2]"])


def test_choices_stand_above_their_key() -> None:
    lines = [line.strip() for line in config.annotated_yaml().splitlines()]
    assert lines[lines.index("optimizer: null") - 1] == "# One of: adamw, adam, sgd."


def test_the_schema_knows_every_section() -> None:
    schema = config.schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False
