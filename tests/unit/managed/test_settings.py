"""A config's way through `--set` and hyperparameters: it arrives as it was."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from job import config
from job.render.submission import as_settings
from tests.unit.test_config_properties import Tree, trees, valid


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(trees(config.Config))
def test_any_valid_config_comes_back_from_its_settings(tree: Tree) -> None:
    loaded = valid(tree)
    overrides = [f"{key}={value}" for key, value in as_settings(loaded, without=()).items()]
    assert config.load(overrides=overrides) == loaded


def test_defaults_are_left_to_the_image_and_what_is_named_elsewhere_is_left_out() -> None:
    loaded = config.load(values={"data.uri": "gs://b/photos", "output": "gs://b/1", "train.seed": 0, "work_dir": None})
    assert as_settings(loaded, without=("output",)) == {"data.uri": "gs://b/photos", "train.seed": "0"}
