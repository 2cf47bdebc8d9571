"""Training throughput that NVIDIA publishes for its TensorFlow examples, as their READMEs give it.

Whole networks trained from scratch on ImageNet, forward and backward through every layer: beside them stands
fine-tuning with nothing frozen. Read at the commits named; the figures are those of the READMEs' tables
"Training performance".
"""

from __future__ import annotations

from typing import NamedTuple

_REPOSITORY = "https://github.com/NVIDIA/DeepLearningExamples/blob"
RESNET50 = (
    f"{_REPOSITORY}/1d4211fe9d94550d7bc72bb9b0ac4f576533ca52/TensorFlow/Classification/ConvNets/resnet50v1.5/README.md"
)
EFFICIENTNET_V2 = (
    f"{_REPOSITORY}/115867b539cb96714b6fedfd4e7f021a4590356a/TensorFlow2/Classification/ConvNets/efficientnet_v2/"
    "README.md"
)


class Published(NamedTuple):
    """One figure.

    Attributes:
        images_s: Over all GPUs.
        note: What differs from a run of ours, apart from the machine.
    """

    backbone: str
    gpu: str
    num_gpus: int
    precision: str
    image_px: int
    images_s: float
    source: str
    note: str = ""


_V1_5 = "ResNet-50 v1.5: stride 2 in the 3x3 convolution; TensorFlow 1 with XLA, 256 images a GPU"
_PROGRESSIVE = "at 300 px, the last stage of its training, 1.8 times the pixels of 224"

PUBLISHED = (
    Published("resnet50", "A100 40 GB", 1, "mixed", 224, 2375, RESNET50, _V1_5),
    Published("resnet50", "A100 40 GB", 8, "mixed", 224, 17400, RESNET50, _V1_5),
    Published("resnet50", "V100 16 GB", 1, "mixed", 224, 1270, RESNET50, _V1_5),
    Published("resnet50", "V100 16 GB", 8, "mixed", 224, 9510, RESNET50, _V1_5),
    Published("efficientnet_v2_s", "A100 80 GB", 1, "mixed", 300, 950, EFFICIENTNET_V2, _PROGRESSIVE),
    Published("efficientnet_v2_s", "A100 80 GB", 8, "mixed", 300, 6600, EFFICIENTNET_V2, _PROGRESSIVE),
    Published("efficientnet_v2_s", "V100 32 GB", 1, "mixed", 300, 380, EFFICIENTNET_V2, _PROGRESSIVE),
    Published("efficientnet_v2_s", "V100 32 GB", 8, "mixed", 300, 1774, EFFICIENTNET_V2, _PROGRESSIVE),
)


def of(backbone: str, num_gpus: int) -> list[Published]:
    """Returns the figures for a backbone on that many GPUs."""
    return [one for one in PUBLISHED if (one.backbone, one.num_gpus) == (backbone, num_gpus)]
