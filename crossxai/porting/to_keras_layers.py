"""The Keras layers of every op of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np

from crossxai.errors import Unsupported
from crossxai.model import Array
from crossxai.porting import keras_layers as ours
from crossxai.porting.building import causal, none, rest, same_padding, widened
from crossxai.porting.graph import FUNCTIONS, PLAIN_ACTIVATIONS, Node


@dataclass(frozen=True, eq=False)
class Step:
    """make: (dtype, name) → a layer; weights: what it takes, in its own order; arguments: which of the node's inputs it is
    called with, one by one; all of them in a list if empty; named: what else it is called with."""

    make: Callable[..., Any]
    weights: Sequence[Array] = ()
    arguments: tuple[int, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


Settings = Mapping[str, Any]
Weights = Mapping[str, Array]
Maker = Callable[[Node, Settings, Weights, list[Any]], list[Step]]
_SPACE = (1, 2, 3)


def _layer(kind: Any, *args: Any, weights: Sequence[Array] = (), **named: Any) -> Step:
    return Step(lambda **both: kind(*args, **named, **both), weights)


def _kind(name: str, n: int) -> Any:
    return getattr(keras.layers, f"{name}{n}D")


def _padding(padding: Any, value: float = 0.0) -> list[Step]:
    """Layers that pad, and crop where the padding is negative, the axes of space."""
    layers = []
    n = len(padding)
    more = tuple((max(a, 0), max(b, 0)) for a, b in padding)
    less = tuple((max(-a, 0), max(-b, 0)) for a, b in padding)
    if more != none(n):
        if value == 0:
            layers.append(_layer(_kind("ZeroPadding", n), more if n > 1 else more[0]))
        elif value == -np.inf and n == 2:
            layers.append(_layer(ours.MinusInfinityPadding2D, more))
        else:
            layers.append(_layer(ours.Function, "pad", {"padding": more, "value": value}))
    if less != none(n):
        layers.append(_layer(_kind("Cropping", n), less if n > 1 else less[0]))
    return layers


def _arrays(weights: Weights, *names: str) -> list[Array]:
    return [weights[name] for name in names if name in weights]


def _conv(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    kernel, strides, dilation, groups = w["kernel"], s["strides"], s["dilation"], s["groups"]
    named = {"strides": strides, "dilation_rate": dilation, "use_bias": "bias" in w}
    if max(strides) > 1 and max(dilation) > 1:
        raise Unsupported(
            f"node {node.name!r} ({node.op}) has strides {strides} and dilation {dilation}; Keras takes one"
        )
    size, channels, out = kernel.shape[:-2], x[0].shape[-1], kernel.shape[-1]
    n = len(size)
    # TensorFlow's depthwise kernel knows one stride for both axes.
    if groups > 1 and groups == channels and len(set(strides)) == 1 and n < 3:
        depthwise = kernel.reshape(*size, channels, out // channels)
        weights = [depthwise, *_arrays(w, "bias")]
        layer = _layer(_kind("DepthwiseConv", n), size, depth_multiplier=out // channels, weights=weights, **named)
    else:
        layer = _layer(_kind("Conv", n), out, size, groups=groups, weights=_arrays(w, "kernel", "bias"), **named)
    return [*_padding(s["padding"]), layer]


def _conv_transpose(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    kernel, crop = widened(w["kernel"], s["crop"])
    size = kernel.shape[:-2]
    # Where the stride is larger than the kernel, TensorFlow adds the difference at the end.
    after = [max(stride - k, 0) for stride, k in zip(s["strides"], size, strict=True)]
    weights = [kernel, *_arrays(w, "bias")]
    kind = getattr(keras.layers, f"Conv{len(size)}DTranspose")
    layer = _layer(kind, kernel.shape[-2], size, strides=s["strides"], use_bias="bias" in w, weights=weights)
    return [layer, *_padding([(-a, -b - more) for (a, b), more in zip(crop, after, strict=True)])]


def _attention(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    weights: list[Array] = []
    mask = w.get("mask")
    own = mask is not None and not (mask.ndim == 2 and np.array_equal(mask, causal(*mask.shape)))
    for name in ("query", "key", "value", "output"):
        kernel, heads = w[name], s["heads"]
        width = w["query"].shape[1] // heads
        scale = ours.attention_scale(width, kernel.dtype) if name == "query" and not own else 1.0
        kernel = kernel / scale
        split = (heads, kernel.shape[1] // heads)
        weights.append(kernel.reshape(heads, -1, kernel.shape[1]) if name == "output" else kernel.reshape(-1, *split))
        if f"{name}_bias" in w:
            weights.append(w[f"{name}_bias"] if name == "output" else (w[f"{name}_bias"] / scale).reshape(split))
    make = partial(
        ours.MaskedAttention if own else keras.layers.MultiHeadAttention,
        s["heads"],
        w["query"].shape[1] // s["heads"],
        value_dim=w["value"].shape[1] // s["heads"],
        dropout=s.get("dropout", 0.0),
        use_bias="query_bias" in w,
        output_shape=w["output"].shape[1],
        **({"mask_shape": w["mask"].shape} if own else {}),
    )
    if own:
        return [Step(make, [w["mask"], *weights], (0, 2, 1))]
    return [Step(make, weights, (0, 2, 1), {} if mask is None else {"use_causal_mask": True})]


def _flatten(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    rank = len(x[0].shape)
    turned = s["order"] == "channels_first" and rank > 2
    axes = (rank - 1, *range(1, rank - 1))
    return [*([_layer(keras.layers.Permute, axes)] if turned else []), _layer(keras.layers.Flatten)]


def _reshape(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    if np.prod(s["shape"]) == np.prod(x[0].shape[1:]):
        return [_layer(keras.layers.Reshape, s["shape"])]
    return _function(node, s, w, x)  # samples are made of parts, or parts of samples


def _upsample(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    if s["method"] == "bilinear" and x[0].dtype == "float64":
        return [_layer(ours.BilinearUpSampling2D, s["factors"])]
    return [_layer(keras.layers.UpSampling2D, s["factors"], interpolation=s["method"])]


def _leaky_relu(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    exact = x[0].dtype != "float64" or s["slope"] == float(np.float32(s["slope"]))
    return [_layer(keras.layers.LeakyReLU if exact else ours.ExactLeakyReLU, negative_slope=s["slope"])]


def _prelu(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    rank, alpha = len(x[0].shape), w["alpha"]
    alpha = alpha.reshape((1,) * (rank - 1 - alpha.ndim) + alpha.shape)
    shared = [axis for axis, size in enumerate(alpha.shape, start=1) if size == 1]
    return [_layer(keras.layers.PReLU, shared_axes=shared or None, weights=[alpha])]


def _max_pool(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    padding = _padding(s["padding"], -np.inf)
    if len(s["size"]) == 3 and x[0].dtype == "float64":
        return [*padding, _layer(ours.Pooling3D, "max", s["size"], s["strides"])]
    return [*padding, _layer(_kind("MaxPooling", len(s["size"])), s["size"], s["strides"])]


def _avg_pool(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    size, strides, n = s["size"], s["strides"], len(s["size"])
    padding = s.get("padding", none(n))
    if n == 3 and x[0].dtype == "float64":
        return [_layer(ours.InnerAveragePooling, size, strides, padding)]
    space = x[0].shape[1:-1]
    if padding == none(n) or (None not in space and padding == same_padding(space, size, strides, (1,) * n)):
        same = "valid" if padding == none(n) else "same"
        return [_layer(_kind("AveragePooling", n), size, strides, padding=same)]
    return [_layer(ours.InnerAveragePooling, size, strides, padding)]


def _adaptive(kind: str, node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    return [_layer(_kind(f"Adaptive{kind}Pooling", len(s["size"])), s["size"] if len(s["size"]) > 1 else s["size"][0])]


def _global(kind: str, node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    return [_layer(_kind(f"Global{kind}Pooling", len(x[0].shape) - 2), keepdims=s["keepdims"])]


def _pad(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    if len(s["padding"]) == len(x[0].shape) - 2 and s["value"] in (0, -np.inf):
        return _padding(s["padding"], s["value"]) or [_layer(keras.layers.Identity)]
    return _function(node, s, w, x)


def _batch_norm(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    named = {
        "epsilon": s["eps"],
        "momentum": rest(s.get("momentum", 0.1)),
        "scale": "gamma" in w,
        "center": "beta" in w,
    }
    return [_layer(_K.BatchNormalization, weights=_arrays(w, "gamma", "beta", "mean", "variance"), **named)]


def _layer_norm(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    axes = list(range(-s["axes"], 0))
    named = {"epsilon": s["eps"], "scale": "gamma" in w, "center": "beta" in w}
    return [_layer(keras.layers.LayerNormalization, axes, weights=_arrays(w, "gamma", "beta"), **named)]


def _rms_norm(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    axes = list(range(-s["axes"], 0))
    if "gamma" not in w:  # Keras's own has always one
        return _function(node, s, w, x)
    given = axes if len(axes) > 1 else -1
    return [_layer(keras.layers.RMSNormalization, given, epsilon=s["eps"], weights=[w["gamma"]])]


def _group_norm(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    named = {"epsilon": s["eps"], "scale": "gamma" in w, "center": "beta" in w}
    return [_layer(keras.layers.GroupNormalization, s["groups"], weights=_arrays(w, "gamma", "beta"), **named)]


def _function(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    return [_layer(ours.Function, node.op, dict(s))]


def _affine(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    numbers = (s["factor"], s["term"])
    exact = all(float(np.float32(v)) == v for v in numbers)
    return [_layer(keras.layers.Rescaling if exact else ours.Affine, *numbers)]


def _dropout(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
    rank, together = len(x[0].shape), s["together"]
    shape = tuple(1 if axis in together else None for axis in range(rank)) if together else None
    return [_layer(keras.layers.Dropout, s["rate"], noise_shape=shape)]


def _of(kind: Any, *args: Any, weights: Sequence[str] = (), **settings: str) -> Maker:
    """One layer with these of the node's weights; settings: its argument -> the node's setting."""

    def make(node: Node, s: Settings, w: Weights, x: list[Any]) -> list[Step]:
        named = {name: s[setting] for name, setting in settings.items()}
        return [_layer(kind, *args, weights=_arrays(w, *weights), **named)]

    return make


_K = keras.layers
MAKERS: dict[str, Maker] = {
    **{f"conv{n}d": _conv for n in _SPACE},
    **{f"conv_transpose{n}d": _conv_transpose for n in _SPACE},
    **{f"max_pool{n}d": _max_pool for n in _SPACE},
    **{f"avg_pool{n}d": _avg_pool for n in _SPACE},
    **{f"adaptive_avg_pool{n}d": partial(_adaptive, "Average") for n in _SPACE},
    **{f"adaptive_max_pool{n}d": partial(_adaptive, "Max") for n in _SPACE},
    "global_avg_pool": partial(_global, "Average"),
    "global_max_pool": partial(_global, "Max"),
    "dense": lambda node, s, w, x: [
        _layer(_K.Dense, w["kernel"].shape[1], use_bias="bias" in w, weights=_arrays(w, "kernel", "bias"))
    ],
    "embedding": lambda node, s, w, x: [_layer(_K.Embedding, *w["table"].shape, weights=[w["table"]])],
    "multi_head_attention": _attention,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "standardise": lambda node, s, w, x: [_layer(ours.Standardise, w["mean"], w["sd"])],
    "constant": lambda node, s, w, x: [
        _layer(ours.Constant, w["value"].shape, s.get("trains", True), weights=[w["value"][None]])
    ],
    "affine": _affine,
    "scale": lambda node, s, w, x: [_layer(ours.Scale, w["scale"].shape, s["trains"], weights=[w["scale"]])],
    **{name: _of(_K.Activation, name) for name in PLAIN_ACTIVATIONS - {"relu", "relu6"}},
    "relu": _of(_K.ReLU),
    "relu6": _of(_K.ReLU, 6.0),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _of(_K.ELU, alpha="alpha"),
    "gelu": lambda node, s, w, x: [_layer(_K.Activation, ours.gelu_tanh if s["approximate"] else ours.gelu_erf)],
    "softmax": lambda node, s, w, x: [_layer(_K.Softmax, s.get("axis", -1))],
    "log_softmax": lambda node, s, w, x: [_layer(ours.Function, "log_softmax", dict(s))],
    "pad": _pad,
    "upsample2d": _upsample,
    "resize": _of(ours.Resize, method="method", places="places"),
    "flatten": _flatten,
    "expand": lambda node, s, w, x: [_layer(_K.Reshape, (1, 1, x[0].shape[-1]))],
    "reshape": _reshape,
    "transpose": lambda node, s, w, x: [_layer(_K.Permute, s["axes"][1:])],
    "add": _of(_K.Add),
    "subtract": _of(_K.Subtract),
    "multiply": _of(_K.Multiply),
    "maximum": _of(_K.Maximum),
    "minimum": _of(_K.Minimum),
    "concatenate": _of(_K.Concatenate, axis="axis"),
    "dropout": _dropout,
    **dict.fromkeys(
        FUNCTIONS | {"power", "clip", "divide", "einsum", "unit_norm", "mean", "sum", "max", "slice", "take", "roll", "tile"},
        _function,
    ),
}  # fmt: skip
