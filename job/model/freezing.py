"""What trains: layers above a cut, BatchNorm by its own switch, and the variables in groups from the head down."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Literal

import keras

from job.model import cut as cutting
from job.model import graph
from job.model.cut import Cut

MAX_GROUPS = 12
"""Most learning-rate groups below the head. ConvNeXt's layer decay uses 12, whatever the depth; one group
for each block of a deep network would leave nothing of the lower learning rates (0.85 ** 50 = 3e-4).
Source: facebookresearch/ConvNeXt, optim_factory.py."""


def freeze(model: Any, cut: Cut | None, *, batchnorm: Literal["frozen", "trained"]) -> None:
    """Sets `trainable` layer by layer: what is above the cut trains.

    Calling a part of the model with `training=False` does not keep BatchNorm from updating its statistics
    (keras#20285), `trainable = False` on the layer does: it then normalises with the moving statistics and
    leaves them, its scale and its offset alone.

    Args:
        model: Of `classifier.build`. May be called again with another cut; build the optimizer afterwards.
        cut: None trains the head alone.
        batchnorm: "frozen" freezes every BatchNorm; "trained" trains those above the cut, with statistics
            over all replicas (per replica they would drift apart, and an empty replica gives NaN).
    """
    last_frozen = (cut or cutting.features_cut(model)).index
    for position, node in enumerate(graph.nodes(model)):
        layer = node.operation
        if not isinstance(layer, keras.Layer):
            continue
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = position > last_frozen and not (is_norm and batchnorm == "frozen")
        if is_norm:
            # Keras reads it at every call, so it can be set after the layer is built.
            layer.synchronized = layer.trainable


def layer_groups(model: Any, cut: Cut | None) -> list[list[Any]]:
    """Returns the trainable variables by block, from the head (first) down to the cut.

    Neighbouring blocks share a group where there are more than `MAX_GROUPS`. The stem goes with the first
    block, what follows the last block with the last.

    Args:
        model: Already frozen with the same cut.
        cut: Of `block_boundaries` or `cut_for_share`; None for the head alone.

    Returns:
        Each trainable variable of the model once; no group is empty.
    """
    features = cutting.features_cut(model).index
    ends = cut.block_ends if cut else ()
    head: list[Any] = []
    blocks: dict[int, list[Any]] = {}
    seen: set[int] = set()
    for position, node in enumerate(graph.nodes(model)):
        block = min(bisect_left(ends, position), max(0, len(ends) - 1))
        group = head if position > features else blocks.setdefault(block, [])
        for variable in getattr(node.operation, "trainable_variables", ()):
            if id(variable) not in seen:
                seen.add(id(variable))
                group.append(variable)
    filled = [blocks[block] for block in sorted(blocks, reverse=True) if blocks[block]]
    return [group for group in [head, *_merged(filled)] if group]


def _merged(groups: list[list[Any]]) -> list[list[Any]]:
    count = min(len(groups), MAX_GROUPS)
    merged: list[list[Any]] = [[] for _ in range(count)]
    for position, group in enumerate(groups):
        merged[position * count // len(groups)] += group
    return merged
