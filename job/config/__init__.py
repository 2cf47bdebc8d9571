"""The job's settings: typed, frozen, checked once before any work. Nothing here imports TensorFlow."""

from job.config.reading import load, parse, validate
from job.config.settings import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PhaseConfig,
    RequireConfig,
    SplitConfig,
    TelemetryConfig,
    TrainConfig,
)
from job.config.writing import annotated_yaml, schema, to_yaml

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ModelConfig",
    "PhaseConfig",
    "RequireConfig",
    "SplitConfig",
    "TelemetryConfig",
    "TrainConfig",
    "annotated_yaml",
    "load",
    "parse",
    "schema",
    "to_yaml",
    "validate",
]
