"""Where a classifier can be cut in two, and the two parts: trunk (input side, frozen) and top (trained).

A graph can be cut where one tensor alone carries everything on: `top(trunk(x)) == model(x)`, and the parts
share their variables with the model. The position of the cut is stored, never a name, because Keras counts
some names over the whole process.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from job.model import graph
from job.model.backbones import Backbone

FEATURES = "features"
"""Name of the layer that gives the pooled features, float32 [B, D]."""
LOGITS = "logits"
"""Name of the head, which gives float32 [B, K]."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One place to cut a model.

    Attributes:
        index: Position of the last call below the cut among `graph.nodes(model)`.
        layer_name: Of that call, for people.
        shape: Of the tensor that crosses, without the batch: (H, W, C) or (D,).
        share_below: Share of the model's parameters below the cut, 0..1.
        flops_below: Share of the multiplications of a forward pass below the cut, 0..1.
        block_ends: The `index` of every block end of the backbone, ascending; empty where not asked for.
    """

    index: int
    layer_name: str
    shape: tuple[int, ...]
    share_below: float
    flops_below: float
    block_ends: tuple[int, ...] = ()

    @property
    def blocks_below(self) -> float:
        """Share of the backbone's blocks below the cut, 0..1."""
        return bisect_right(self.block_ends, self.index) / max(1, len(self.block_ends))

    @property
    def is_input(self) -> bool:
        """Whether nothing is below the cut: the trunk returns its input."""
        return self.flops_below == 0.0 and self.index == 0


def boundaries(model: Any) -> list[Cut]:
    """Returns every cut of a functional model with one input, input side first; the first is the input itself."""
    nodes = graph.nodes(model)
    last_use = {id(tensor): position for position, node in enumerate(nodes) for tensor in node.input_tensors}
    params, flops = _costs(nodes)
    cuts: list[Cut] = []
    live: set[int] = set()
    for position, node in enumerate(nodes):
        live.update(map(id, node.outputs))
        live = {tensor for tensor in live if last_use.get(tensor, -1) > position}
        # In any topological order everything above such a tensor depends on it alone.
        if live == {id(node.outputs[0])}:
            shape = tuple(node.outputs[0].shape[1:])
            cuts.append(Cut(position, node.operation.name, shape, float(params[position]), float(flops[position])))
    return cuts


def _costs(nodes: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the running shares float64 [nodes] of parameters and of multiplications."""
    params, flops = np.zeros(len(nodes)), np.zeros(len(nodes))
    counted: set[int] = set()
    for position, node in enumerate(nodes):
        # A kernel is applied once at every position of the output; additions and norms are left out.
        positions = math.prod(size or 1 for size in node.outputs[0].shape[1:-1])
        for weight in getattr(node.operation, "weights", ()):
            size = math.prod(weight.shape)
            flops[position] += size * positions if len(weight.shape) > 1 else 0
            params[position] += 0 if id(weight) in counted else size
            counted.add(id(weight))
    return np.cumsum(params) / max(1, params.sum()), np.cumsum(flops) / max(1, flops.sum())


def block_boundaries(model: Any, backbone: Backbone) -> list[Cut]:
    """Returns the cuts at the ends of the backbone's blocks, input side first.

    Of several ends without parameters between them only the last is kept: a pooling makes the tensor smaller.

    Args:
        model: Of `classifier.build`.
        backbone: Its row.
    """
    cuts = boundaries(model)
    features = _features(cuts)
    ends: list[Cut] = []
    for cut in cuts[1:]:
        if cut.index < features.index and re.fullmatch(backbone.block_pattern, cut.layer_name):
            if ends and ends[-1].share_below == cut.share_below:
                ends.pop()
            ends.append(cut)
    indices = tuple(cut.index for cut in ends)
    return [replace(cut, block_ends=indices) for cut in ends]


def cut_for_share(model: Any, backbone: Backbone, share: float) -> Cut:
    """Returns the cut above which about this share of the backbone's blocks lies, at least one block.

    Args:
        share: Above 0, at most 1. What rounds to all blocks gives the cut at the input, stem included.
    """
    assert 0 < share <= 1
    ends = block_boundaries(model, backbone)
    num_trained = max(1, math.floor(share * len(ends) + 0.5))
    if num_trained >= len(ends):
        return replace(boundaries(model)[0], block_ends=tuple(cut.index for cut in ends))
    return ends[-num_trained - 1]


def features_cut(model: Any) -> Cut:
    """Returns the cut after the pooled features: the whole backbone is below, dropout and head above."""
    return _features(boundaries(model))


def _features(cuts: list[Cut]) -> Cut:
    return next(cut for cut in cuts if cut.layer_name == FEATURES)


def split(model: Any, cut: Cut) -> tuple[Any, Any]:
    """Returns (trunk, top), with `top(trunk(x)) == model(x)`; both share the model's variables.

    Call a frozen trunk with `training=False`: freezing stops its BatchNorm, not its dropout.
    """
    tensor = graph.nodes(model)[cut.index].outputs[0]
    return keras.Model(model.inputs[0], tensor, name="trunk"), keras.Model(tensor, model.outputs[0], name="top")
