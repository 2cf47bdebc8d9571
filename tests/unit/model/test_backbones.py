"""The table of backbones, without TensorFlow."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from job.errors import ConfigError
from job.model.backbones import BACKBONES, Norm, Preprocessing, get


def test_the_table_has_every_size_of_every_family() -> None:
    families = {row.family for row in BACKBONES.values()}
    assert len(BACKBONES) >= 48
    assert len(families) == 14
    assert all(name == row.name and re.fullmatch(r"[a-z][a-z0-9_]*", name) for name, row in BACKBONES.items())


@pytest.mark.parametrize("name", BACKBONES)
def test_a_row_is_plausible(name: str) -> None:
    row = BACKBONES[name]
    assert 32 <= row.min_px <= row.native_px <= 600
    assert 1e-5 <= row.finetune_learning_rate <= row.head_learning_rate <= 1e-2
    assert 0 < row.layer_decay <= 1
    assert 0 <= row.dropout < 1
    assert 0 <= row.weight_decay <= 1e-3
    assert row.million_parameters > 0
    assert row.constructor
    assert row.path is None
    re.compile(row.block_pattern)


@pytest.mark.parametrize(
    ("name", "preprocessing", "norm", "native_px"),
    [
        ("vgg16", Preprocessing.CAFFE, Norm.NONE, 224),
        ("resnet50", Preprocessing.CAFFE, Norm.BATCH, 224),
        ("resnet50_v2", Preprocessing.SYMMETRIC, Norm.BATCH, 224),
        ("inception_v3", Preprocessing.SYMMETRIC, Norm.BATCH, 299),
        ("densenet121", Preprocessing.TORCH, Norm.BATCH, 224),
        ("mobilenet_025", Preprocessing.SYMMETRIC, Norm.BATCH, 224),
        ("mobilenet_v3_small", Preprocessing.INSIDE, Norm.BATCH, 224),
        ("efficientnet_b4", Preprocessing.INSIDE, Norm.BATCH, 380),
        ("efficientnet_v2_s", Preprocessing.INSIDE, Norm.BATCH, 384),
        ("convnext_tiny", Preprocessing.INSIDE, Norm.LAYER, 224),
        ("nasnet_large", Preprocessing.SYMMETRIC, Norm.BATCH, 331),
    ],
)
def test_families_have_their_conventions(name: str, preprocessing: Preprocessing, norm: Norm, native_px: int) -> None:
    row = get(name)
    assert (row.preprocessing, row.norm, row.native_px) == (preprocessing, norm, native_px)


def test_a_misspelt_backbone_gets_the_nearest_name_and_all_allowed() -> None:
    with pytest.raises(ConfigError) as error:
        get("efficientnetv2_b0")
    message = str(error.value)
    assert "'efficientnetv2_b0'" in message
    assert "Did you mean 'efficientnet_v2_b0'?" in message
    assert "resnet50" in message
    assert ".keras" in message
    assert error.value.exit_code == 78


def test_the_table_needs_no_tensorflow() -> None:
    heavy = "{'tensorflow', 'keras', 'h5py'}"
    script = f"import sys, job.model.backbones, job.model.custom; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
