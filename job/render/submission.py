"""What every specification asks of a run: a name, an image that stays the same, settings without secrets."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Iterator
from typing import Any

import yaml

from job.config import Config
from job.errors import ConfigError, UsageError
from job.masking import masked_tree

MAX_NAME = 63
"""Of a DNS label, which a pod's host name is (RFC 1123), and of a SageMaker training job."""


def run_name(config: Config, *, longest: int) -> str:
    """Returns a DNS label for a run: the last part of its output, and what keeps it apart from others."""
    output = (config.output or "").rstrip("/")
    tail = re.sub(r"[^a-z0-9]+", "-", output.rsplit("/", 1)[-1].lower()).strip("-")
    digest = hashlib.sha256(output.encode()).hexdigest()[:6]
    room = longest - len("finetune--") - len(digest)
    return "-".join(part for part in ("finetune", tail[:room].strip("-"), digest) if part)


def check_label(what: str, text: str, *, longest: int) -> None:
    """Refuses what is no DNS label: a UsageError that names the option `what`."""
    if len(text) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text):
        raise UsageError(
            f"--{what} is {text!r}, but must be a DNS label: lower-case letters, digits and hyphens inside, "
            f"beginning with a letter, at most {longest} characters.",
            next_step=f"Give another --{what}.",
        )


def check_image(image: str) -> None:
    """Refuses an image that may be another one when a job starts again: a UsageError."""
    if not re.search(r"(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$", image):
        raise UsageError(
            f"--image is {image!r}, which has neither a tag nor a digest: a job that starts again could be "
            "another one.",
            next_step="Name a version: REGISTRY/finetune-job:0.1.0, or @sha256:....",
        )


def check_strategy(config: Config, nodes: int) -> None:
    """Refuses a strategy that is for more or fewer machines: a ConfigError."""
    strategy, is_many = config.train.strategy, nodes > 1
    if strategy != "auto" and (strategy == "multi_worker") != is_many:
        raise ConfigError(
            f"train.strategy is {strategy}, and --nodes is {nodes}.",
            next_step="Leave train.strategy out: by itself it is what the machines ask for.",
        )


def refuse_secrets(tree: dict[str, Any], *, shown_to: str, next_step: str) -> None:
    """Refuses a specification that holds a secret: a ConfigError; it says who would see it and what to do instead."""
    if masked_tree(tree) != tree:
        raise ConfigError(
            "The config holds a secret (a signed query, a key or a password), which everybody who may "
            f"{shown_to} would see.",
            next_step=f"Take it out of the config; {next_step}.",
        )


def as_settings(config: Config, *, without: Collection[str]) -> dict[str, str]:
    """Returns what the config sets, as `--set` and hyperparameters take it: dotted key → value in YAML.

    Args:
        without: Dotted keys that are left out. null, the default wherever it is allowed, is left out as well.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    return {key: _yaml(value) for key, value in _leaves(tree) if value is not None and key not in without}


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize)
    # PyYAML ends a plain scalar with the mark of a document's end.
    return text.strip().removesuffix("...").strip()
