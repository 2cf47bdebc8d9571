"""The job's settings: typed, frozen, checked once before any work.

A value of None means "the preset, the backbone or the machine decides"; `job/training/recipe.py`
turns the config into numbers. The line under each field is its documentation, in `finetune config`
and in the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _batch(value: object) -> object:
    # One message for both: of a union, pydantic reports a fault for each member.
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"must be a whole number of images, at least 1, or auto; received {value!r}")


Batch = Annotated[
    int | Literal["auto"],
    PlainValidator(_batch),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "const": "auto"}]}),
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SplitConfig(Section):
    train: Fraction = 0.8
    """Share of the images, where the data brings no split of its own."""
    validation: Fraction = 0.1
    """Share used to choose the winner; also taken from train where the data brings only train and test."""
    test: Fraction = 0.1
    """Share used once, for the report."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, validation and test must sum to 1, and sum to {total:g}")
        return self


class DataConfig(Section):
    uri: str | None = None
    """Folder, manifest, TFRecord shards or archive: a path, gs://, s3:// or az://."""
    layout: Literal["auto", "image_folder", "csv", "jsonl", "tfrecord", "archive"] = "auto"
    """How images and labels are laid out; auto recognises it."""
    image_px: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Height and width the model takes, pixels. null: the backbone's native size."""
    stored_px: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Height and width images are resized to before the centre crop to image_px. null: image_px."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How an image becomes square: squash both sides, crop the centre, or pad with black."""
    split: SplitConfig = SplitConfig()
    max_bad: Fraction = 0.05
    """Share of unusable images above which the job stops (exit 65)."""
    min_px: Annotated[int, Field(ge=1)] = 8
    """Images with a side shorter than this are quarantined as too small."""
    max_megapixels: Positive = 100.0
    """Images larger than this are quarantined as too large."""
    follow_links: bool = False
    """Whether links out of the data folder are read; otherwise such images are quarantined as outside."""
    near_duplicates: bool = True
    """Whether images that show the same, encoded or scaled another way, count as copies; false: equal files alone."""
    pack_gb: Annotated[float, Field(ge=0.0)] = 50.0
    """Disk for decoded images, gigabytes; a larger dataset is decoded on the fly."""

    @model_validator(mode="after")
    def _stored_covers_image(self) -> Self:
        if self.stored_px is not None and self.image_px is not None and self.stored_px < self.image_px:
            raise ValueError(f"stored_px ({self.stored_px}) must be at least image_px ({self.image_px})")
        return self


class ModelConfig(Section):
    backbone: str = "efficientnet_v2_b0"
    """A name of `finetune config --backbones`, or the URI of a .keras file."""
    weights: str = "imagenet"
    """imagenet, none, or the URI of a .weights.h5, .h5 or .keras file."""
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 the weights file must have, lower-case hex."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout in front of the head. null: the backbone's."""


class PhaseConfig(Section):
    """Numbers of one training phase; null leaves each to the preset and the backbone."""

    enabled: bool | None = None
    """Whether the phase runs."""
    images: Annotated[int, Field(ge=1)] | None = None
    """Budget: training images seen, counted with repetition."""
    epochs: Positive | None = None
    """The same budget in passes over the training images; images wins where both are set."""
    patience: Positive | None = None
    """Stop after this many epochs' worth of images without a better validation loss."""
    optimizer: Literal["adamw", "adam", "sgd"] | None = None
    """AdamW, Adam, or SGD with Nesterov momentum 0.9."""
    learning_rate: Positive | None = None
    """Peak, at the top layers, for the global batch."""
    warmup: Fraction | None = None
    """Share of the phase with linearly rising learning rate; cosine to 0 afterwards."""
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    """Decoupled weight decay; biases and normalisation are left out."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Learning-rate factor per block, going down from the head. 1 is off."""
    clip_norm: Positive | None = None
    """Largest global norm of the gradient of the mean loss."""
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Decay a step of the averaged weights that are evaluated and exported. 0 is off."""
    views: Annotated[int, Field(ge=0)] | None = None
    """Augmented views of each image whose frozen features are cached. 0: augment afresh, cache nothing."""


class FinetuneConfig(PhaseConfig):
    unfreeze: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of the backbone's blocks that train, counted from the top; rounded to a block boundary."""
    batchnorm: Literal["frozen", "trained"] = "frozen"
    """frozen keeps BatchNorm statistics and scales; trained uses statistics over all replicas."""


class AugmentConfig(Section):
    """Random changes of training images; null leaves each to the preset."""

    flip: bool | None = None
    """Mirror left to right with probability 1/2."""
    crop_scale: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Smallest share of the area a random resized crop keeps. 1 is off."""
    color: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Strength of brightness, contrast and saturation changes. 0 is off."""
    mixup: Annotated[float, Field(ge=0.0)] | None = None
    """Alpha of MixUp's Beta distribution. 0 is off."""
    cutmix: Annotated[float, Field(ge=0.0)] | None = None
    """Alpha of CutMix's Beta distribution. 0 is off."""
    randaugment: Annotated[int, Field(ge=0, le=10)] | None = None
    """Magnitude of RandAugment (two operations an image). 0 is off."""


class TrainConfig(Section):
    preset: Literal["fast", "balanced", "best"] = "balanced"
    """fast: the probe alone. balanced: probe, head, about ten epochs. best: the published budgets."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides the split, the order, the augmentation and the initial weights."""
    batch: Batch | None = None
    """Global batch: images a step over all replicas. null: the preset's. auto: the largest that the GPUs' memory holds,
    tried once and kept with the run (batch.json); without a GPU no limit is looked for, and it is the preset's.
    Learning rates follow: linearly for SGD, with the square root for Adam."""
    accumulate: Count = 1
    """Micro-batches a step, when the global batch does not fit."""
    strategy: Literal["auto", "single", "mirrored", "multi_worker"] = "auto"
    """auto: multi_worker where TF_CONFIG is set, mirrored with several GPUs, otherwise single."""
    start_timeout_s: Positive = 1800.0
    """Seconds that several machines wait for each other before they train (then exit 75)."""
    replicas: Annotated[int, Field(ge=1, le=64)] | None = None
    """With mirrored: this many virtual CPU devices, for trying it out. null: all GPUs."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Compute dtype; auto is bfloat16 where every GPU has it, otherwise float32."""
    xla: bool = False
    """Compile forward and backward with XLA."""
    on_divergence: Literal["stop", "retry"] = "stop"
    """retry: once a phase, from the last checkpoint at half the learning rate. stop: exit 80."""
    deterministic: bool = False
    """Bit-for-bit repeatable on the same devices; slower on GPUs."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Share of the target spread over all classes. null: the preset's."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each class weighs the same in the loss, whatever its count."""
    head: PhaseConfig = PhaseConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class CheckpointConfig(Section):
    every_s: Positive = 300.0
    """Seconds between checkpoints."""
    every_steps: Count | None = None
    """Steps between checkpoints, besides every_s."""
    keep: Count = 2
    """Newest checkpoints kept."""


class TelemetryConfig(Section):
    every_steps: Count = 10
    """Steps between points of the training curves."""
    mirror_every_s: Positive = 30.0
    """Seconds between uploads of the TensorBoard logs."""
    profile_steps: tuple[int, int] | None = None
    """First and last step of the fine-tuning that the profiler records."""

    @model_validator(mode="after")
    def _profiles_a_range(self) -> Self:
        if self.profile_steps is not None and not 0 <= self.profile_steps[0] <= self.profile_steps[1]:
            raise ValueError(f"profile_steps must be [first, last] with 0 <= first <= last, not {self.profile_steps}")
        return self


class EvaluateConfig(Section):
    top_k: Count = 5
    """k of the top-k accuracy."""
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples behind each confidence interval."""


class RequireConfig(Section):
    accuracy: Fraction | None = None
    """Test accuracy below which the job ends with exit 82, after the report is pushed."""


class Config(Section):
    """Everything a run depends on. Saved with the run as config.yaml."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    require: RequireConfig = RequireConfig()
    output: str | None = None
    """Folder of the run: a path, gs://, s3:// or az://. The same output resumes."""
    work_dir: str | None = None
    """Local folder for downloads and caches. null: $XDG_CACHE_HOME/finetune-job."""
