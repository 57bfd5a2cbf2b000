"""What Keras convolutions, pools, paddings and resizes are in a graph, in one, two or three dimensions of space."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.model import Array
from crossxai.porting.building import Padding, none, same_padding
from crossxai.porting.from_keras_ops import Call, Ref, array
from crossxai.porting.keras_layers import BilinearUpSampling2D


def several(value: Any, n: int) -> tuple[int, ...]:
    every = tuple(value) if isinstance(value, tuple | list) else (value,) * n
    return tuple(int(v) for v in every)


def _last(c: Call, layer: Any, x: Any, *ranks: int) -> Ref:
    """The activation, whose channels are last."""
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        raise c.fail(f"data_format={layer.data_format!r}")
    return c.check(x, *ranks or (3, 4, 5))


def _padding(c: Call, layer: Any, x: Ref, size: Any, dilation: Any = None) -> Padding:
    n = x.rank - 2
    if layer.padding == "valid":
        return none(n)
    strides, dilation = several(layer.strides, n), (1,) * n if dilation is None else several(dilation, n)
    sides = same_padding(x.shape[1:-1], size, strides, dilation)
    if layer.padding == "causal":
        reach = dilation[0] * (size[0] - 1)
        return ((reach, 0),)
    return sides


def weighted(layer: Any, **weights: Array) -> dict[str, Array]:
    return weights if layer.bias is None else {**weights, "bias": array(layer.bias)}


def pointwise(n: int) -> dict[str, Any]:
    return {"strides": (1,) * n, "dilation": (1,) * n, "groups": 1, "padding": none(n)}


def _convolved(c: Call, layer: Any, x: Ref, weights: dict[str, Array], groups: int, name: str = "") -> Ref:
    n = _last(c, layer, x).rank - 2
    size, dilation = several(layer.kernel_size, n), several(layer.dilation_rate, n)
    settings: dict[str, Any] = {"strides": several(layer.strides, n), "dilation": dilation, "groups": groups}
    padding = _padding(c, layer, x, size, dilation)
    # On the way, a name tells that this is not the layer's own result; its shape is that of the kernel's channels.
    return c.node(f"conv{n}d", x, name=name, weights=weights, padding=padding, **settings)


def _grouped(kernel: Any) -> tuple[Array, int]:
    """A depthwise kernel (*size, in, times) as that of a convolution, and its number of groups."""
    values = array(kernel)
    *size, channels, times = values.shape
    return values.reshape(*size, 1, channels * times), channels


def conv(c: Call, layer: Any, x: Ref) -> Ref:
    weights = weighted(layer, kernel=array(layer.kernel))
    return c.activated(_convolved(c, layer, x, weights, layer.groups), layer.activation)


def conv_op(c: Call, operation: Any, x: Ref, kernel: Any) -> Ref:
    """keras.ops.conv with a kernel that no input changes."""
    if isinstance(kernel, Ref):
        raise c.fail("with a kernel that depends on the inputs")
    values, n = array(kernel), _last(c, operation, x).rank - 2
    size, dilation = values.shape[:-2], several(operation.dilation_rate, n)
    padding = _padding(c, operation, x, size, dilation)
    settings: dict[str, Any] = {"strides": several(operation.strides, n), "dilation": dilation, "padding": padding}
    return c.node(f"conv{n}d", x, weights={"kernel": values}, groups=x.shape[-1] // values.shape[-2], **settings)


def depthwise(c: Call, layer: Any, x: Ref) -> Ref:
    kernel, groups = _grouped(layer.kernel)
    return c.activated(_convolved(c, layer, x, weighted(layer, kernel=kernel), groups), layer.activation)


def separable(c: Call, layer: Any, x: Ref) -> Ref:
    kernel, groups = _grouped(layer.depthwise_kernel)
    spread_out = _convolved(c, layer, x, {"kernel": kernel}, groups, f"{c.name}.depthwise")
    weights = weighted(layer, kernel=array(layer.pointwise_kernel))
    n = spread_out.rank - 2
    return c.activated(c.node(f"conv{n}d", spread_out, weights=weights, **pointwise(n)), layer.activation)


def conv_transpose(c: Call, layer: Any, x: Ref) -> Ref:
    n = _last(c, layer, x).rank - 2
    dilation, strides, size = (several(v, n) for v in (layer.dilation_rate, layer.strides, layer.kernel_size))
    if dilation != (1,) * n or getattr(layer, "groups", 1) != 1:
        raise c.fail(f"dilation_rate={layer.dilation_rate}; only 1")
    lengths = zip(x.shape[1:-1], strides, size, c.shape[1:-1], strict=True)
    beyond = [(length - 1) * stride + k - out for length, stride, k, out in lengths]
    crop = tuple((0, b) if layer.padding == "valid" else (max(b, 0) // 2, b - max(b, 0) // 2) for b in beyond)
    weights = weighted(layer, kernel=array(layer.kernel))
    return c.activated(c.node(f"conv_transpose{n}d", x, weights=weights, strides=strides, crop=crop), layer.activation)


def max_pool(c: Call, layer: Any, x: Ref) -> Ref:
    n = _last(c, layer, x).rank - 2
    size = several(layer.pool_size, n)
    return c.node(f"max_pool{n}d", x, size=size, strides=several(layer.strides, n), padding=_padding(c, layer, x, size))


def avg_pool(c: Call, layer: Any, x: Ref) -> Ref:
    n = _last(c, layer, x).rank - 2
    size = several(layer.pool_size, n)
    return c.node(f"avg_pool{n}d", x, size=size, strides=several(layer.strides, n), padding=_padding(c, layer, x, size))


def inner_avg_pool(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node(f"avg_pool{x.rank - 2}d", x, size=layer.size, strides=layer.strides, padding=layer.padding)


def pool_3d(c: Call, layer: Any, x: Ref) -> Ref:
    kind = {"average": "avg", "max": "max"}[layer.kind]
    return c.node(f"{kind}_pool3d", x, size=layer.size, strides=layer.strides, padding=none(3))


def adaptive(kind: str, c: Call, layer: Any, x: Ref) -> Ref:
    n = _last(c, layer, x).rank - 2
    return c.node(f"adaptive_{kind}_pool{n}d", x, size=several(layer.output_size, n))


def global_pool(kind: str, c: Call, layer: Any, x: Ref, mask: Any = None) -> Ref:
    return c.node(f"global_{kind}_pool", _last(c, layer, x), keepdims=bool(layer.keepdims))


def zero_pad(sign: int, c: Call, layer: Any, x: Ref) -> Ref:
    sides = getattr(layer, "padding" if sign > 0 else "cropping")
    sides = (sides,) if _last(c, layer, x).rank == 3 else sides
    padding = tuple((sign * int(a), sign * int(b)) for a, b in sides)
    return c.node("pad", x, padding=padding, value=0.0)


def center_crop(c: Call, layer: Any, x: Ref) -> Ref:
    before, after = _last(c, layer, x).shape[1:3], (layer.height, layer.width)
    less = [old - new for old, new in zip(before, after, strict=True)]
    if min(less) < 0:
        raise c.fail(f"enlarges images of {before} to {after}")
    return c.node("pad", x, padding=tuple((-(n // 2), -(n - n // 2)) for n in less), value=0.0)


def upsample(c: Call, layer: Any, x: Ref) -> Ref:
    method = "bilinear" if isinstance(layer, BilinearUpSampling2D) else getattr(layer, "interpolation", "nearest")
    rank = _last(c, layer, x).rank
    factors = several(layer.size, rank - 2)
    if method not in ("nearest", "bilinear"):
        raise c.fail(f"interpolation={method!r}; only nearest and bilinear")
    if rank == 4:
        return c.node("upsample2d", x, factors=factors, method=method)
    places = [[float(i // f) for i in range(n * f)] for n, f in zip(x.shape[1:-1], factors, strict=True)]
    return c.node("resize", x, size=tuple(map(len, places)), method="nearest", places=places)


def resize(c: Call, x: Ref, size: Any, method: str, antialias: bool = False) -> Ref:
    """Keras's resizing: half-pixel centres, the entry below for nearest."""
    if method not in ("nearest", "bilinear") or antialias:
        raise c.fail(f"interpolation={method!r}, antialias={antialias}; only nearest and bilinear")
    places = []
    for length, out in zip(c.check(x, 4).shape[1:3], size, strict=True):
        at = (np.arange(out) + 0.5) * (length / out)
        at = np.floor(at) if method == "nearest" else at - 0.5
        places.append([float(p) for p in np.clip(at, 0, length - 1)])
    return c.node("resize", x, size=tuple(size), method="linear" if method == "bilinear" else "nearest", places=places)


def resizing(c: Call, layer: Any, x: Ref) -> Ref:
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise c.fail("crop_to_aspect_ratio or pad_to_aspect_ratio")
    return resize(c, _last(c, layer, x, 4), (layer.height, layer.width), layer.interpolation, layer.antialias)


def resize_op(c: Call, operation: Any, x: Ref) -> Ref:
    if operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio:
        raise c.fail("crop_to_aspect_ratio or pad_to_aspect_ratio")
    return resize(c, x, operation.size, operation.interpolation, operation.antialias)


def own_resize(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("resize", x, size=tuple(map(len, layer.places)), method=layer.method, places=layer.places)
