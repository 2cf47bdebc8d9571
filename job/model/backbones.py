"""Every backbone the job knows, one row each. Data only: nothing here imports TensorFlow.

Add a backbone of `keras.applications`: add a row. Learning rates, weight decay, layer decay and dropout are
starting points per family, for a global batch of 64; where the sources give none the number is an
interpolation between them:

    family                        fine-tuning                        source
    VGG                           SGD 1e-4, last blocks              Simonyan & Zisserman 2014 (momentum .9, 5e-4)
    ResNet v1, v2                 AdamW 5e-5                         interpolated, Kornblith et al. 2019
    Inception*, Xception          AdamW 3e-5                         Keras transfer-learning guide (1e-5)
    MobileNet v1, v2, v3          AdamW 2e-4                         interpolated, AutoGluon's mobile preset (4e-4)
    DenseNet                      AdamW 5e-5                         interpolated
    NASNet                        AdamW 3e-5                         interpolated
    EfficientNet                  AdamW 1e-4, weight decay 1e-5      Tan & Le 2019 (dropout rises with the size)
    EfficientNetV2                AdamW 1e-4, weight decay 1e-5      Tan & Le 2021 (1e-3 at a batch of 512)
    ConvNeXt                      AdamW 3e-5, weight decay 1e-8      its TRAINING.md (5e-5 at 512, layer decay .7-.8)

The head's 1e-3 (Adam) is that of the Keras guides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from job.errors import ConfigError, nearest


class Preprocessing(StrEnum):
    """What happens to RGB 0..255 in front of the backbone's first layer."""

    CAFFE = "caffe"
    """RGB to BGR, minus the mean of ImageNet, not scaled."""
    SYMMETRIC = "symmetric"
    """Scaled to -1..1; Keras calls it "tf"."""
    TORCH = "torch"
    """Scaled to 0..1, minus the mean of ImageNet, over its standard deviation."""
    INSIDE = "inside"
    """Nothing: the backbone's own first layers do it."""


class Norm(StrEnum):
    """The normalisation layers inside a backbone."""

    BATCH = "batch"
    LAYER = "layer"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Backbone:
    """One row of the table.

    Attributes:
        name: What `model.backbone` says.
        family: Groups the sizes of one architecture.
        constructor: Attribute of `keras.applications`; "" for a custom backbone.
        kwargs: Further arguments of the constructor.
        native_px: Height and width the weights were trained for, pixels.
        min_px: Smallest height and width the architecture takes, pixels.
        block_pattern: Regular expression of whole layer names that end a block.
        million_parameters: Without the head.
        head_learning_rate: Adam's, for the head alone, global batch 64.
        finetune_learning_rate: At the top layers, global batch 64.
        layer_decay: Learning-rate factor per block, going down from the head.
        dropout: In front of the head.
        weights_px: The sizes Keras has ImageNet weights for; empty where one file serves all.
        path: The .keras file of a custom backbone.
    """

    name: str
    family: str
    constructor: str
    native_px: int
    min_px: int
    preprocessing: Preprocessing
    norm: Norm
    block_pattern: str
    million_parameters: float
    finetune_learning_rate: float
    finetune_optimizer: Literal["adamw", "sgd"]
    weight_decay: float
    layer_decay: float
    dropout: float
    head_learning_rate: float = 1e-3
    kwargs: Mapping[str, float] = field(default_factory=dict, hash=False)
    weights_px: tuple[int, ...] = ()
    path: Path | None = None


def _rows() -> list[Backbone]:
    rows: list[Backbone] = []

    def family(name: str, preprocessing: Preprocessing, pattern: str, **shared: Any) -> Callable[..., None]:
        def row(row_name: str, constructor: str, million: float, **own: Any) -> None:
            settings: dict[str, Any] = {
                "min_px": 32,
                "native_px": 224,
                "norm": Norm.BATCH,
                "finetune_optimizer": "adamw",
            }
            settings |= {"weight_decay": 1e-4, "layer_decay": 0.85, "dropout": 0.2} | shared | own
            rows.append(
                Backbone(
                    row_name,
                    name,
                    constructor,
                    preprocessing=preprocessing,
                    block_pattern=pattern,
                    million_parameters=million,
                    **settings,
                )
            )

        return row

    caffe, symmetric, inside = Preprocessing.CAFFE, Preprocessing.SYMMETRIC, Preprocessing.INSIDE

    sgd = {"finetune_learning_rate": 1e-4, "finetune_optimizer": "sgd", "weight_decay": 5e-4, "layer_decay": 0.8}
    row = family("vgg", caffe, r"block\d_pool", norm=Norm.NONE, dropout=0.5, **sgd)
    row("vgg16", "VGG16", 14.7)
    row("vgg19", "VGG19", 20.0)

    row = family("resnet", caffe, r"conv\d_block\d+_out", finetune_learning_rate=5e-5)
    row("resnet50", "ResNet50", 23.6)
    row("resnet101", "ResNet101", 42.7)
    row("resnet152", "ResNet152", 58.4)
    row = family("resnet_v2", symmetric, r"conv\d_block\d+_out", finetune_learning_rate=5e-5)
    row("resnet50_v2", "ResNet50V2", 23.6)
    row("resnet101_v2", "ResNet101V2", 42.6)
    row("resnet152_v2", "ResNet152V2", 58.3)

    inception = {"native_px": 299, "finetune_learning_rate": 3e-5, "dropout": 0.3}
    row = family("inception_v3", symmetric, r"mixed\d+", min_px=75, **inception)
    row("inception_v3", "InceptionV3", 21.8)
    pattern = r"mixed_5b|mixed_6a|mixed_7a|block\d+_\d+_ac"
    row = family("inception_resnet_v2", symmetric, pattern, min_px=75, **inception)
    row("inception_resnet_v2", "InceptionResNetV2", 54.3)
    # The names of the residual sums are counted over the process: add, add_1, ...
    row = family("xception", symmetric, r"block1_conv2_act|add(_\d+)?|block14_sepconv2_act", min_px=71, **inception)
    row("xception", "Xception", 20.9)

    row = family(
        "mobilenet", symmetric, r"conv_pw_\d+_relu", finetune_learning_rate=2e-4, weights_px=(128, 160, 192, 224)
    )
    for alpha, million in ((0.25, 0.2), (0.5, 0.8), (0.75, 1.8), (1.0, 3.2)):
        row(_sized("mobilenet", alpha), "MobileNet", million, kwargs={"alpha": alpha})
    pattern = r"expanded_conv_project_BN|block_\d+_(project_BN|add)"
    sizes = (96, 128, 160, 192, 224)
    row = family("mobilenet_v2", symmetric, pattern, finetune_learning_rate=2e-4, weights_px=sizes)
    for alpha, million in ((0.35, 0.4), (0.5, 0.7), (0.75, 1.4), (1.0, 2.3), (1.3, 3.8), (1.4, 4.4)):
        # For the wide ones there is one file, of 224 px.
        own = {"weights_px": (224,)} if alpha > 1 else {}
        row(_sized("mobilenet_v2", alpha), "MobileNetV2", million, kwargs={"alpha": alpha}, **own)
    row = family("mobilenet_v3", inside, r"expanded_conv(_\d+)?_(project_bn|add)", finetune_learning_rate=2e-4)
    row("mobilenet_v3_small", "MobileNetV3Small", 0.9)
    row("mobilenet_v3_large", "MobileNetV3Large", 3.0)

    pattern = r"conv\d_block\d+_concat|pool\d_pool"
    row = family("densenet", Preprocessing.TORCH, pattern, finetune_learning_rate=5e-5)
    row("densenet121", "DenseNet121", 7.0)
    row("densenet169", "DenseNet169", 12.6)
    row("densenet201", "DenseNet201", 18.3)

    # Each cell takes the outputs of two cells before it, so there is no boundary between the stem and the last cell.
    row = family("nasnet", symmetric, r"stem_bn1|normal_concat_\d+", finetune_learning_rate=3e-5, layer_decay=0.9)
    row("nasnet_mobile", "NASNetMobile", 4.3)
    row("nasnet_large", "NASNetLarge", 84.9, native_px=331, dropout=0.5)

    whole = {"finetune_learning_rate": 1e-4, "weight_decay": 1e-5, "layer_decay": 0.9}
    row = family("efficientnet", inside, r"block\d[a-z]_(project_bn|add)", **whole)
    efficientnets = (
        (224, 4.0, 0.2),
        (240, 6.6, 0.2),
        (260, 7.8, 0.3),
        (300, 10.8, 0.3),
        (380, 17.7, 0.4),
        (456, 28.5, 0.4),
        (528, 41.0, 0.5),
        (600, 64.1, 0.5),
    )
    for number, (px, million, dropout) in enumerate(efficientnets):
        row(f"efficientnet_b{number}", f"EfficientNetB{number}", million, native_px=px, dropout=dropout)
    row = family(
        "efficientnet_v2", inside, r"block\d[a-z]_add|block1a_project_activation|block[2-9][a-z]_project_bn", **whole
    )
    row("efficientnet_v2_b0", "EfficientNetV2B0", 5.9)
    row("efficientnet_v2_b1", "EfficientNetV2B1", 6.9, native_px=240)
    row("efficientnet_v2_b2", "EfficientNetV2B2", 8.8, native_px=260)
    row("efficientnet_v2_b3", "EfficientNetV2B3", 12.9, native_px=300)
    row("efficientnet_v2_s", "EfficientNetV2S", 20.3, native_px=384)
    row("efficientnet_v2_m", "EfficientNetV2M", 53.2, native_px=480, dropout=0.3)
    row("efficientnet_v2_l", "EfficientNetV2L", 117.7, native_px=480, dropout=0.4)

    tiny_decay = {"finetune_learning_rate": 3e-5, "weight_decay": 1e-8, "layer_decay": 0.8}
    row = family("convnext", inside, r"add(_\d+)?", norm=Norm.LAYER, dropout=0.0, **tiny_decay)
    row("convnext_tiny", "ConvNeXtTiny", 27.8)
    row("convnext_small", "ConvNeXtSmall", 49.5)
    row("convnext_base", "ConvNeXtBase", 87.6)
    row("convnext_large", "ConvNeXtLarge", 196.2)
    row("convnext_xlarge", "ConvNeXtXLarge", 348.1)
    return rows


def _sized(name: str, alpha: float) -> str:
    return name if alpha == 1.0 else f"{name}_{round(alpha * 100):03d}"


BACKBONES: Mapping[str, Backbone] = MappingProxyType({row.name: row for row in _rows()})


def get(name: str) -> Backbone:
    """Returns the row of a name; a ConfigError names the nearest one and all of them."""
    if name in BACKBONES:
        return BACKBONES[name]
    raise ConfigError(
        f"model.backbone: there is no backbone {name!r}.{nearest(name, BACKBONES)} Allowed: {', '.join(BACKBONES)}, "
        "or the URI of a .keras file.",
        next_step="`finetune config --backbones` lists them with their sizes.",
    )
