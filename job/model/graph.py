"""The graph of a functional Keras model: its nodes in order, and the same layers laid out on another input.

The only file that touches what Keras keeps private about a graph (`_nodes_by_depth` and a node's
`operation`, `input_tensors`, `outputs`, `arguments`); read in the sources of Keras 3.12 to 3.15.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def nodes(model: Any) -> list[Any]:
    """Returns the calls that make up a functional model, in the order Keras runs them: inputs first.

    The order is the same in every process that builds the same model, so a position in it identifies a
    call; names do not (`add_3` counts all sums made in the process so far).
    """
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def is_known(model: Any) -> bool:
    """Returns whether a model is functional or sequential and built, so that its graph can be walked."""
    return (isinstance(model, keras.Sequential) and model.built) or hasattr(model, "_nodes_by_depth")


def is_input(node: Any) -> bool:
    """Returns whether a node is an input of its model and computes nothing."""
    return isinstance(node.operation, keras.layers.InputLayer)


def run(model: Any, tensor: Any, call: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """Returns the output of a functional model on `tensor`, each node's result being `call(node, args, kwargs)`.

    Args:
        model: With one input and one output.
        tensor: A tensor or KerasTensor that takes the input's place.
        call: Gives what a node's operation gives; of several results, a structure of them.
    """
    tensors = {id(model.inputs[0]): tensor}
    for node in nodes(model):
        if not is_input(node):
            args, kwargs = node.arguments.fill_in(tensors)
            results = call(node, args, kwargs)
            tensors |= zip(map(id, node.outputs), keras.tree.flatten(results), strict=True)
    return tensors[id(model.outputs[0])]


def relay(model: Any, tensor: Any, policy: str, *, has_weights: bool = True) -> Any:
    """Lays a copy of every layer of `model` out on another input, nested models opened up.

    The copies have the model's weights, the given dtype policy and names of their own where a name comes
    twice.

    Args:
        model: Functional or Sequential, built, with one input and one output.
        tensor: KerasTensor that takes the input's place.
        policy: Name of a Keras dtype policy, for all layers.
        has_weights: False initialises the copies afresh.

    Returns:
        The KerasTensor that takes the output's place.
    """
    return _Relay(policy, has_weights).through(model, tensor)


class _Relay:
    def __init__(self, policy: str, has_weights: bool) -> None:
        self._policy = policy
        self._has_weights = has_weights
        self._copies: dict[int, Any] = {}
        self._names: set[str] = set()

    def through(self, model: Any, tensor: Any) -> Any:
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                tensor = self._call(layer, (tensor,), {})
            return tensor
        return run(model, tensor, lambda node, args, kwargs: self._call(node.operation, args, kwargs))

    def _call(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(operation, keras.Model):
            return self.through(operation, args[0])
        if id(operation) in self._copies:
            return self._copies[id(operation)](*args, **kwargs)
        copy = self._copies[id(operation)] = self._copy(operation)
        results = copy(*args, **kwargs)
        if isinstance(operation, keras.Layer) and self._has_weights:
            copy.set_weights(operation.get_weights())
            if isinstance(copy, keras.layers.Normalization):
                # It computes with constants made from its weights.
                copy.finalize_state()
        return results

    def _copy(self, operation: Any) -> Any:
        config = operation.get_config()
        config["name"] = self._unique(operation.name)
        if isinstance(operation, keras.Layer):
            config["dtype"] = self._policy
        return type(operation).from_config(config)

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self._names:
            unique, number = f"{name}_{number}", number + 1
        self._names.add(unique)
        return unique
