"""What Keras layers with weights, windows or constants are in a graph, and the tables of all translations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from crossxai.model import Array
from crossxai.porting import from_keras_ops as ops
from crossxai.porting.building import NONE, Padding, same_padding
from crossxai.porting.from_keras_ops import Call, Ref, array
from crossxai.porting.to_keras import BilinearUpSampling2D, ExactLeakyReLU, Standardise


def _padding(c: Call, layer: Any, x: Ref, size: Any, dilation: Any = (1, 1)) -> Padding:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise c.fail("data_format='channels_first'")
    if layer.padding == "valid":
        return NONE
    return same_padding(c.check(x, 4).shape[1:3], size, layer.strides, dilation)


def _weights(layer: Any, **weights: Array) -> dict[str, Array]:
    return weights if layer.bias is None else {**weights, "bias": array(layer.bias)}


POINTWISE: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": NONE}


def _convolved(c: Call, layer: Any, x: Ref, weights: dict[str, Array], groups: int, name: str = "") -> Ref:
    padding = _padding(c, layer, x, layer.kernel_size, layer.dilation_rate)
    settings = {"strides": tuple(layer.strides), "dilation": tuple(layer.dilation_rate), "groups": groups}
    return c.node("conv2d", x, name=name, weights=weights, padding=padding, **settings)


def _grouped(kernel: Any) -> tuple[Array, int]:
    """A depthwise kernel (y, x, in, times) as that of a convolution, and its number of groups."""
    values = array(kernel)
    high, wide, channels, times = values.shape
    return values.reshape(high, wide, 1, channels * times), channels


def conv(c: Call, layer: Any, x: Ref) -> Ref:
    weights = _weights(layer, kernel=array(layer.kernel))
    return c.activated(_convolved(c, layer, x, weights, layer.groups), layer.activation)


def depthwise(c: Call, layer: Any, x: Ref) -> Ref:
    kernel, groups = _grouped(layer.kernel)
    return c.activated(_convolved(c, layer, x, _weights(layer, kernel=kernel), groups), layer.activation)


def separable(c: Call, layer: Any, x: Ref) -> Ref:
    kernel, groups = _grouped(layer.depthwise_kernel)
    spread_out = _convolved(c, layer, x, {"kernel": kernel}, groups, f"{c.name}.depthwise")
    weights = _weights(layer, kernel=array(layer.pointwise_kernel))
    return c.activated(c.node("conv2d", spread_out, weights=weights, **POINTWISE), layer.activation)


def conv_transpose(c: Call, layer: Any, x: Ref) -> Ref:
    output_padding = getattr(layer, "output_padding", None)
    if tuple(layer.dilation_rate) != (1, 1) or output_padding is not None or getattr(layer, "groups", 1) != 1:
        raise c.fail(f"dilation_rate={layer.dilation_rate}, output_padding={output_padding}; only 1 and None")
    beyond = [k - stride for k, stride in zip(layer.kernel_size, layer.strides, strict=True)]
    crop = tuple((0, min(b, 0)) if layer.padding == "valid" else (max(b, 0) // 2, b - max(b, 0) // 2) for b in beyond)
    weights = _weights(layer, kernel=array(layer.kernel))
    node = c.node("conv_transpose2d", c.check(x, 4), weights=weights, strides=tuple(layer.strides), crop=crop)
    return c.activated(node, layer.activation)


def dense(c: Call, layer: Any, x: Ref) -> Ref:
    kernel = array(layer.kernel)
    if len(c.check(x, 2, 3, 4).shape) == 4:  # on an image: a convolution of one pixel
        weights = _weights(layer, kernel=kernel[None, None])
        node = c.node("conv2d", x, weights=weights, **POINTWISE)
    else:
        node = c.node("dense", x, weights=_weights(layer, kernel=kernel))
    return c.activated(node, layer.activation)


def batch_norm(c: Call, layer: Any, x: Ref, mask: Any = None) -> Ref:
    if layer.axis not in (-1, len(c.check(x, 2, 4).shape) - 1):
        raise c.fail(f"axis={layer.axis}; only the last")
    mean, variance = array(layer.moving_mean), array(layer.moving_variance)
    gamma = array(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = array(layer.beta) if layer.center else np.zeros_like(mean)
    weights = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return c.node("batch_norm", x, weights=weights, eps=float(layer.epsilon))


def relu(c: Call, layer: Any, x: Ref) -> Ref:
    kinds = (layer.max_value, float(layer.negative_slope or 0), float(layer.threshold or 0))
    if kinds == (None, 0, 0):
        return c.node("relu", x)
    if kinds == (6, 0, 0):
        return c.node("relu6", x)
    if kinds[0] is None and kinds[2] == 0:
        return c.node("leaky_relu", x, slope=float(np.float32(kinds[1])))
    raise c.fail(f"max_value={layer.max_value}, negative_slope={layer.negative_slope}, threshold={layer.threshold}")


def max_pool(c: Call, layer: Any, x: Ref) -> Ref:
    padding = _padding(c, layer, x, layer.pool_size)
    return c.node("max_pool2d", c.check(x, 4), size=layer.pool_size, strides=tuple(layer.strides), padding=padding)


def avg_pool(c: Call, layer: Any, x: Ref) -> Ref:
    if _padding(c, layer, x, layer.pool_size) != NONE:
        raise c.fail(f"padding='same' pads {x.shape[1:3]}, and its means at the border are over fewer pixels")
    return c.node("avg_pool2d", c.check(x, 4), size=layer.pool_size, strides=tuple(layer.strides))


def global_pool(kind: str, c: Call, layer: Any, x: Ref) -> Ref:
    if layer.data_format != "channels_last":
        raise c.fail("data_format='channels_first'")
    return c.node(f"global_{kind}_pool", c.check(x, 4), keepdims=bool(layer.keepdims))


def zero_pad(sign: int, c: Call, layer: Any, x: Ref) -> Ref:
    sides = getattr(layer, "padding" if sign > 0 else "cropping")
    padding = tuple((sign * int(a), sign * int(b)) for a, b in sides)
    return c.node("pad", c.check(x, 4), padding=padding, value=0.0)


def upsample(c: Call, layer: Any, x: Ref) -> Ref:
    method = "bilinear" if isinstance(layer, BilinearUpSampling2D) else layer.interpolation
    if method not in ("nearest", "bilinear"):
        raise c.fail(f"interpolation={method!r}; only nearest and bilinear")
    return c.node("upsample2d", c.check(x, 4), factors=tuple(layer.size), method=method)


def rescaling(c: Call, layer: Any, x: Ref) -> Ref:
    # As the layer itself rounds them: Keras takes them to float32 first, whatever the dtype.
    scale, offset = (array(layer.backend.cast(v, layer.compute_dtype)) for v in (layer.scale, layer.offset))
    if not np.all(scale):
        raise c.fail("multiplies by zero")
    return c.standardised(x, -offset / scale, 1 / scale)


def normalization(c: Call, layer: Any, x: Ref) -> Ref:
    if layer.invert or layer.axis not in ((-1,), (len(x.shape) - 1,)):
        raise c.fail(f"axis={layer.axis}, invert={layer.invert}; only the last axis, not inverted")
    mean, variance = (array(v).reshape(-1) for v in (layer.mean, layer.variance))
    sd = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    return c.standardised(x, mean, sd)


def standardise(c: Call, layer: Any, x: Ref) -> Ref:
    return c.standardised(x, layer.mean, layer.sd)


Translation = Callable[..., Ref]
_K = keras.layers
LAYERS: dict[Any, Translation] = {
    _K.Conv2D: conv, _K.DepthwiseConv2D: depthwise, _K.SeparableConv2D: separable, _K.Conv2DTranspose: conv_transpose,
    _K.Dense: dense, _K.BatchNormalization: batch_norm, _K.ReLU: relu, _K.Softmax: ops.softmax,
    _K.LeakyReLU: partial(ops.plain, "leaky_relu"), _K.ELU: partial(ops.plain, "elu"),
    ExactLeakyReLU: lambda c, layer, x: c.node("leaky_relu", x, slope=layer.negative_slope),
    _K.Activation: lambda c, layer, x: c.activated(c.check(x, 2, 3, 4), layer.activation),
    _K.MaxPooling2D: max_pool, _K.AveragePooling2D: avg_pool,
    _K.GlobalAveragePooling2D: partial(global_pool, "avg"), _K.GlobalMaxPooling2D: partial(global_pool, "max"),
    _K.ZeroPadding2D: partial(zero_pad, 1), _K.Cropping2D: partial(zero_pad, -1),
    _K.UpSampling2D: upsample, BilinearUpSampling2D: upsample, _K.Concatenate: ops.concatenate,
    _K.Add: partial(ops.merge, "add"), _K.Subtract: partial(ops.merge, "subtract"),
    _K.Multiply: partial(ops.merge, "multiply"),
    _K.Rescaling: rescaling, _K.Normalization: normalization, Standardise: standardise,
    _K.Permute: ops.permute, _K.Flatten: ops.reshape, _K.Reshape: ops.reshape,
    **dict.fromkeys((_K.Identity, _K.Dropout, _K.SpatialDropout2D, _K.GaussianNoise, _K.GaussianDropout,
                     _K.AlphaDropout, _K.ActivityRegularization), ops.identity),
}  # fmt: skip
"""Layers whose `call` is this one's; the rest is opened, if it is not Keras's own."""

OPERATIONS: dict[str, Translation] = {
    "Relu": partial(ops.plain, "relu"), "Relu6": partial(ops.plain, "relu6"), "Sigmoid": partial(ops.plain, "sigmoid"),
    "Tanh": partial(ops.plain, "tanh"), "Softplus": partial(ops.plain, "softplus"), "Silu": partial(ops.plain, "silu"),
    "LeakyRelu": partial(ops.plain, "leaky_relu"), "Elu": partial(ops.plain, "elu"), "Gelu": partial(ops.plain, "gelu"),
    "Softmax": ops.softmax, "Add": partial(ops.arithmetic, "add"), "Subtract": partial(ops.arithmetic, "subtract"),
    "Multiply": partial(ops.arithmetic, "multiply"), "Divide": partial(ops.arithmetic, "divide"),
    "TrueDivide": partial(ops.arithmetic, "divide"), "Negative": ops.negative, "Concatenate": ops.concatenate,
    "Pad": ops.pad, "Mean": partial(ops.over_space, "avg"), "Max": partial(ops.over_space, "max"),
    "Amax": partial(ops.over_space, "max"),
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), ops.reshape), "GetItem": ops.get_item,
    **dict.fromkeys(("Cast", "ConvertToTensor", "Identity"), ops.identity),
}  # fmt: skip
"""keras.ops by the name of their class: the classes themselves are not public."""
