"""A model's layers put together where that gives the same numbers for less work: in forward passes and in training.

  * BatchNorm that normalises with constants goes into the convolution before it: BN(conv(x, K)) = conv(x, K s) + b,
    with s = gamma / sqrt(variance + epsilon) and b = beta - mean s. Scale and bias are made from the variables at every
    call, so nothing has to be kept up to date. Source: Jacob et al., 2018, section 3.2 (arXiv:1712.05877).
  * A layer of zeros around an image becomes the padding of the convolution behind it; TensorFlow's `Pad` copies the
    image in one thread. Of a depthwise one only where it is what TensorFlow calls "SAME": where oneDNN's operations are
    on, as on processors with AVX512-VNNI, TensorFlow 2.21 fuses a depthwise convolution and its bias, forgets explicit
    paddings while it does, and aborts ("tensor_format.h: Check failed: index >= 0 && index < num_total_dims").
  * What trains on a processor computes a convolution of 1 x 1 as a product of matrices. TensorFlow's gradients of a
    convolution take three times a forward pass there, each; those of a product as long as the product.

On two cores a training step of a MobileNetV2's upper third takes 0.63 of its time so, and a frozen pass of the rest 0.7
of what it takes with BatchNorm folded alone (docs/performance.md). Results differ by rounding: 4e-6 of the largest
logit, 2e-6 of the largest entry of a gradient.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from job.model import graph


def inference(model: Any) -> Callable[[Any], Any]:
    """Returns what computes `model(x, training=False)`, to rounding, for a functional model with one input."""
    return _fused(model, is_training=False, has_products=False)


def training(model: Any, *, on_cpu: bool) -> Callable[[Any], Any]:
    """Returns what computes `model(x, training=True)`, to rounding, with gradients.

    Args:
        model: Functional, with one input. What is frozen must be so by now: a BatchNorm that is keeps its statistics.
        on_cpu: Whether processors compute it.
    """
    return _fused(model, is_training=True, has_products=on_cpu)


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution and the nodes that go into it.

    Attributes:
        norm: The BatchNorm behind it.
        zeros: The layer of zeros before it.
    """

    node: Any
    norm: Any | None
    zeros: Any | None
    is_product: bool


def _fused(model: Any, *, is_training: bool, has_products: bool) -> Callable[[Any], Any]:
    found = {id(each.node): each for each in _convolutions(model, is_training, has_products)}
    gone = {id(node) for each in found.values() for node in (each.norm, each.zeros) if node is not None}

    def call(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(node) in gone:
            return args[0]
        if id(node) in found:
            return _convolved(found[id(node)], args[0])
        return node.operation(*args, **kwargs | _mode(node.operation, is_training))

    return lambda inputs: graph.run(model, inputs, call)


def _mode(operation: Any, is_training: bool) -> dict[str, bool]:
    """Returns the argument that says whether an operation trains; layers of augmentation do where nothing is said."""
    is_asked = isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters
    return {"training": is_training} if is_asked else {}


def _convolutions(model: Any, is_training: bool, has_products: bool) -> list[_Convolution]:
    """Returns the convolutions that something goes into, or that are products of matrices."""
    nodes = graph.nodes(model)
    makers = {id(tensor): node for node in nodes for tensor in node.outputs}
    num_readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    # A layer may be called twice; what leaves the model counts as read.
    num_readers.update(map(id, model.outputs))
    readers = {id(tensor): node for node in nodes for tensor in node.input_tensors if num_readers[id(tensor)] == 1}
    found = []
    for node in nodes:
        layer = node.operation
        if not _fits(layer):
            continue
        norm = readers.get(id(node.outputs[0]))
        if norm is not None and not _is_constant(layer, norm.operation, is_training):
            norm = None
        (inputs,) = node.input_tensors
        zeros: Any | None = makers[id(inputs)]
        if num_readers[id(inputs)] > 1 or not _is_padding(layer, makers[id(inputs)]):
            zeros = None
        is_product = has_products and zeros is None and _is_pointwise(layer)
        if norm is not None or zeros is not None or is_product:
            found.append(_Convolution(node, norm, zeros, is_product))
    return found


def _fits(layer: Any) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.data_format == "channels_last"
        and layer.compute_dtype == "float32"
    )


def _is_constant(layer: Any, norm: Any, is_training: bool) -> bool:
    """Whether `norm` is a BatchNorm that multiplies and adds constants to what the convolution gives."""
    return (
        type(norm) is keras.layers.BatchNormalization
        and layer.activation is keras.activations.linear
        and norm.compute_dtype == "float32"
        and not norm.renorm
        and not (is_training and norm.trainable)
    )


def _is_padding(layer: Any, node: Any) -> bool:
    """Whether a node puts zeros around an image that the convolution `layer` can put there itself."""
    zeros = node.operation
    return (
        type(zeros) is keras.layers.ZeroPadding2D
        and zeros.data_format == "channels_last"
        and layer.padding == "valid"
        and tuple(layer.dilation_rate) == (1, 1)
        # Keras computes groups in a way of its own on processors.
        and getattr(layer, "groups", 1) == 1
        and (type(layer) is keras.layers.Conv2D or _is_same(layer, zeros.padding, node.input_tensors[0].shape[1:3]))
    )


def _is_same(layer: Any, padding: tuple[tuple[int, int], ...], sides: tuple[int | None, ...]) -> bool:
    """Whether zeros are those of the padding "SAME" of an image with these sides (tf.nn, "Notes on padding")."""
    for (before, after), side, size, stride in zip(padding, sides, layer.kernel_size, layer.strides, strict=True):
        if side is None:
            return False
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        if (before, after) != (total // 2, total - total // 2):
            return False
    return True


def _is_pointwise(layer: Any) -> bool:
    return type(layer) is keras.layers.Conv2D and tuple(layer.kernel_size) == (1, 1) and layer.groups == 1


def _convolved(convolution: _Convolution, inputs: Any) -> Any:
    """Returns norm(layer(zeros(inputs))); inputs float32 [b, H, W, C]."""
    layer = convolution.node.operation
    kernel, bias = _parameters(layer, convolution.norm.operation if convolution.norm is not None else None)
    if convolution.is_product:
        outputs = _product(inputs, kernel, tuple(layer.strides))
    elif convolution.zeros is not None:
        outputs = _padded(inputs, kernel, layer, convolution.zeros.operation.padding)
    else:
        outputs = _as_keras(inputs, kernel, layer)
    # Not `+`: TensorFlow fuses convolution, bias and activation only as `BiasAdd`.
    return layer.activation(outputs if bias is None else tf.nn.bias_add(outputs, bias))


def _parameters(layer: Any, norm: Any | None) -> tuple[Any, Any | None]:
    """Returns (kernel, bias [C] or None) of a convolution together with its BatchNorm."""
    kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
    if norm is None:
        return kernel, bias
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    bias = (-norm.moving_mean if bias is None else bias - norm.moving_mean) * scale
    if norm.center:
        bias = bias + norm.beta
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        scale = ops.reshape(scale, tuple(kernel.shape[2:]))
    return kernel * scale, bias


def _product(inputs: Any, kernel: Any, strides: tuple[int, int]) -> Any:
    if strides != (1, 1):
        inputs = inputs[:, :: strides[0], :: strides[1]]
    shape = tf.shape(inputs)
    num_in, num_out = kernel.shape[2:]
    rows = tf.reshape(inputs, [-1, num_in]) @ tf.reshape(kernel, [num_in, num_out])
    outputs = tf.reshape(rows, tf.concat([shape[:-1], [num_out]], axis=0))
    return tf.ensure_shape(outputs, [*inputs.shape[:-1], num_out])


def _padded(inputs: Any, kernel: Any, layer: Any, padding: tuple[tuple[int, int], ...]) -> Any:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return _as_keras(inputs, kernel, layer, padding="same")
    rows, columns = padding
    return tf.nn.conv2d(inputs, kernel, [1, *layer.strides, 1], [[0, 0], list(rows), list(columns), [0, 0]])


def _as_keras(inputs: Any, kernel: Any, layer: Any, *, padding: str | None = None) -> Any:
    convolve = ops.depthwise_conv if isinstance(layer, keras.layers.DepthwiseConv2D) else ops.conv
    return convolve(
        inputs,
        kernel,
        strides=tuple(layer.strides),
        padding=padding or layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )
