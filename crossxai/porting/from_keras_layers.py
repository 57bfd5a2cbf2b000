"""What Keras's dense layers, norms and attention are in a graph, and the tables of all translations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from crossxai.model import Array
from crossxai.porting import from_keras_dropout as dropouts
from crossxai.porting import from_keras_ops as ops
from crossxai.porting import from_keras_shapes as shapes
from crossxai.porting import from_keras_windows as windows
from crossxai.porting import keras_layers as ours
from crossxai.porting.building import causal, rest
from crossxai.porting.from_keras_ops import Call, Ref, array
from crossxai.porting.from_keras_windows import weighted


def dense(c: Call, layer: Any, x: Ref) -> Ref:
    kernel = array(layer.kernel)
    if c.check(x).rank == 4:  # on an image: a convolution of one pixel
        weights = weighted(layer, kernel=kernel[None, None])
        node = c.node("conv2d", x, weights=weights, **windows.pointwise(2))
    else:
        node = c.node("dense", x, weights=weighted(layer, kernel=kernel))
    return c.activated(node, layer.activation)


def einsum_dense(c: Call, layer: Any, x: Ref) -> Ref:
    equation = layer.equation.replace(" ", "")
    terms, out = equation.split("->")
    left, right = terms.split(",")
    if left.startswith("..."):
        raise c.fail(f"{equation!r} with dots")
    kernel = array(layer.kernel)
    if len(right) == 2 and left[-1] == right[0] and out == left[:-1] + right[1]:
        node = c.node("dense", x, name=f"{c.name}.kernel", weights={"kernel": kernel})
    else:
        name, c.name = c.name, f"{c.name}.kernel"
        node = shapes.summed(c, [left, right], out, (x, kernel))
        c.name = name
    if layer.bias is not None:
        node = ops.arithmetic("add", c, layer, node, array(layer.bias))
    return c.activated(node, layer.activation)


def embedding(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("embedding", x, weights={"table": array(layer.embeddings)})


def _scaled(layer: Any) -> dict[str, Array]:
    """The weights by which a norm scales and shifts, those of them that it has."""
    given = {"gamma": layer.gamma if layer.scale else None, "beta": layer.beta if layer.center else None}
    return {name: array(values) for name, values in given.items() if values is not None}


def batch_norm(c: Call, layer: Any, x: Ref, mask: Any = None) -> Ref:
    if layer.axis not in (-1, c.check(x).rank - 1):
        raise c.fail(f"axis={layer.axis}; only the last")
    mean, variance = array(layer.moving_mean), array(layer.moving_variance)
    weights = {**_scaled(layer), "mean": mean, "variance": variance}
    momentum = rest(float(layer.momentum))
    return c.node("batch_norm", x, weights=weights, eps=float(layer.epsilon), momentum=momentum)


def _last_axes(c: Call, layer: Any, x: Ref) -> int:
    """How many axes a norm is over, which have to be the last."""
    given = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    axes = sorted(axis % c.check(x).rank for axis in given)
    if axes != list(range(x.rank - len(axes), x.rank)) or axes[0] == 0:
        raise c.fail(f"axis={layer.axis}; only the last ones")
    return len(axes)


def layer_norm(c: Call, layer: Any, x: Ref) -> Ref:
    if getattr(layer, "rms_scaling", False):
        raise c.fail("rms_scaling")
    return c.node("layer_norm", x, weights=_scaled(layer), axes=_last_axes(c, layer, x), eps=float(layer.epsilon))


def rms_norm(c: Call, layer: Any, x: Ref) -> Ref:
    weights = {"gamma": array(layer.scale)}
    return c.node("rms_norm", x, weights=weights, axes=_last_axes(c, layer, x), eps=float(layer.epsilon))


def group_norm(c: Call, layer: Any, x: Ref) -> Ref:
    if layer.axis not in (-1, c.check(x).rank - 1):
        raise c.fail(f"axis={layer.axis}; only the last")
    groups = x.shape[-1] if layer.groups == -1 else layer.groups
    return c.node("group_norm", x, weights=_scaled(layer), groups=int(groups), eps=float(layer.epsilon))


def unit_norm(c: Call, layer: Any, x: Ref) -> Ref:
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if len(axes) != 1 or getattr(layer, "order", 2) != 2 or getattr(layer, "epsilon", 1e-12) not in (1e-12, None):
        raise c.fail(f"axis={layer.axis}; only one, the Euclidean norm and epsilon=1e-12")
    return c.node("unit_norm", x, axis=ops.axis_of(c, axes[0], c.check(x).rank))


def attention(
    c: Call, layer: Any, query: Ref, value: Ref, key: Any = None, attention_mask: Any = None, use_causal_mask: bool = False,
    **named: Any,
) -> Ref:  # fmt: skip
    extra = {k for k, v in named.items() if v is not None and v is not False}
    extra |= {k for k in ("use_gate", "sliding_window") if getattr(layer, f"_{k}", None)}
    key = value if key is None else key
    if extra or {c.check(r).rank for r in (query, key, value)} != {3}:
        raise c.fail(f"with {', '.join(sorted(extra)) or 'activations of more than 3 axes'}")
    weights: dict[str, Array] = {}
    for name in ("query", "key", "value", "output"):
        part = getattr(layer, f"{name}_dense")
        kernel = array(part.kernel)
        weights[name] = kernel.reshape(-1, kernel.shape[-1]) if name == "output" else kernel.reshape(len(kernel), -1)
        if part.bias is not None:
            weights[f"{name}_bias"] = array(part.bias).reshape(-1)
    dtype = weights["query"].dtype
    if isinstance(layer, ours.MaskedAttention):
        weights["mask"] = array(layer.mask)
    elif attention_mask is not None or use_causal_mask:
        weights["mask"] = _mask(c, (query.shape[1], value.shape[1]), attention_mask, use_causal_mask).astype(dtype)
    scale = 1.0 if isinstance(layer, ours.MaskedAttention) else ours.attention_scale(layer.key_dim, dtype)
    weights |= {name: weights[name] * scale for name in ("query", "query_bias") if name in weights}
    rate = float(layer.get_config()["dropout"])
    kept: dict[str, Any] = {"dropout": rate} if rate else {}
    return c.node("multi_head_attention", query, key, value, weights=weights, heads=layer.num_heads, **kept)


def _mask(c: Call, sizes: tuple[int, int], given: Any, is_causal: bool) -> Array:
    """What a mask, True where places look, adds to scores."""
    if isinstance(given, Ref):
        raise c.fail("with a mask that depends on the inputs")
    looks = np.isfinite(causal(*sizes)) if is_causal else np.ones(sizes, bool)
    if given is not None:
        values = np.asarray(given).astype(bool)
        while values.ndim > 2 and len(values) == 1:
            values = values[0]
        if values.ndim > 2:
            raise c.fail(
                f"with a mask of shape {np.shape(given)}, which may differ from sample to sample or head to head"
            )
        looks = looks & values
    if not looks.any(axis=-1).all():
        raise c.fail("with a mask that lets a place look nowhere")
    return np.where(looks, 0.0, -np.inf)


def relu(c: Call, layer: Any, x: Ref) -> Ref:
    top, slope, threshold = layer.max_value, float(layer.negative_slope or 0), float(layer.threshold or 0)
    if threshold or (top is not None and slope):
        raise c.fail(f"max_value={top}, negative_slope={slope}, threshold={threshold}")
    if top is not None:
        return c.node("relu6", x) if top == 6 else c.node("clip", x, low=0.0, high=float(np.float32(top)))
    return c.node("leaky_relu", x, slope=ops.constant(c, slope)) if slope else c.node("relu", x)


def prelu(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("prelu", x, weights={"alpha": array(layer.alpha)})


def rescaling(c: Call, layer: Any, x: Ref) -> Ref:
    # As the layer itself rounds them: Keras takes them to float32 first, whatever the dtype.
    scale, offset = (array(layer.backend.cast(v, layer.compute_dtype)) for v in (layer.scale, layer.offset))
    if scale.size == offset.size == 1:
        return c.node("affine", x, factor=float(scale.reshape(())), term=float(offset.reshape(())))
    if not np.all(scale):
        raise c.fail("multiplies by zero")
    return c.standardised(x, -offset / scale, 1 / scale)


def normalization(c: Call, layer: Any, x: Ref) -> Ref:
    if layer.invert or layer.axis not in ((), (-1,), (c.check(x).rank - 1,)):
        raise c.fail(f"axis={layer.axis}, invert={layer.invert}; only the last axis, not inverted")
    mean, variance = (
        array(v).reshape(-1) if layer.axis else array(v).reshape(()) for v in (layer.mean, layer.variance)
    )
    sd = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    return c.standardised(x, mean, sd)


def standardise(c: Call, layer: Any, x: Ref) -> Ref:
    return c.standardised(x, layer.mean, layer.sd)


def constant(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("constant", x, weights={"value": array(layer.values)[0]}, trains=layer.trains)


def scale(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("scale", x, weights={"scale": array(layer.scale)}, trains=layer.trains)


def affine(c: Call, layer: Any, x: Ref) -> Ref:
    return c.node("affine", x, factor=layer.factor, term=layer.term)


def function(c: Call, layer: Any, x: Any) -> Ref:
    refs = [c.check(v) for v in (x if isinstance(x, list | tuple) else [x])]
    return Ref(c.builder.add(c.name, layer.function, [r.name for r in refs], **layer.settings), c.shape)


Translation = Callable[..., Any]
_K = keras.layers
_SPACE = (1, 2, 3)


def _nd(pattern: str, rule: Translation, dimensions: tuple[int, ...] = _SPACE) -> dict[Any, Translation]:
    return {getattr(_K, pattern.format(n)): rule for n in dimensions}


AUGMENTING = tuple(
    getattr(_K, name)
    for name in dir(_K)
    if (name.startswith("Random") and name != "RandomCrop") or name in ("RandAugment", "AugMix", "CutMix", "MixUp")
)
"""Layers that change images in training alone; RandomCrop resizes them at other times."""
LAYERS: dict[Any, Translation] = {
    **_nd("Conv{}D", windows.conv), **_nd("Conv{}DTranspose", windows.conv_transpose),
    **_nd("DepthwiseConv{}D", windows.depthwise, (1, 2)), **_nd("SeparableConv{}D", windows.separable, (1, 2)),
    **_nd("MaxPooling{}D", windows.max_pool), **_nd("AveragePooling{}D", windows.avg_pool),
    **_nd("AdaptiveAveragePooling{}D", partial(windows.adaptive, "avg")),
    **_nd("AdaptiveMaxPooling{}D", partial(windows.adaptive, "max")),
    **_nd("GlobalAveragePooling{}D", partial(windows.global_pool, "avg")),
    **_nd("GlobalMaxPooling{}D", partial(windows.global_pool, "max")),
    **_nd("ZeroPadding{}D", partial(windows.zero_pad, 1)), **_nd("Cropping{}D", partial(windows.zero_pad, -1)),
    **_nd("UpSampling{}D", windows.upsample), ours.BilinearUpSampling2D: windows.upsample, _K.Resizing: windows.resizing,
    ours.Resize: windows.own_resize, ours.Pooling3D: windows.pool_3d, ours.InnerAveragePooling: windows.inner_avg_pool,
    ours.MinusInfinityPadding2D: lambda c, layer, x: c.node("pad", x, padding=layer.padding, value=-np.inf),
    _K.Dense: dense, _K.EinsumDense: einsum_dense, _K.Embedding: embedding, _K.MultiHeadAttention: attention,
    ours.MaskedAttention: attention,
    _K.BatchNormalization: batch_norm, _K.LayerNormalization: layer_norm, _K.RMSNormalization: rms_norm,
    _K.GroupNormalization: group_norm, _K.UnitNormalization: unit_norm,
    _K.ReLU: relu, _K.PReLU: prelu, _K.Softmax: partial(ops.softmax, "softmax"),
    _K.LeakyReLU: partial(ops.plain, "leaky_relu"), _K.ELU: partial(ops.plain, "elu"),
    ours.ExactLeakyReLU: lambda c, layer, x: c.node("leaky_relu", x, slope=layer.negative_slope),
    _K.Activation: lambda c, layer, x: c.activated(c.check(x), layer.activation),
    _K.Concatenate: ops.concatenate, _K.Average: ops.average, _K.Dot: shapes.dot,
    **{getattr(_K, op.title()): partial(ops.merge, op) for op in ("add", "subtract", "multiply", "maximum", "minimum")},
    _K.Rescaling: rescaling, _K.Normalization: normalization, ours.Standardise: standardise, ours.Constant: constant,
    ours.Scale: scale, ours.Affine: affine,
    ours.Function: function, _K.Permute: shapes.permute, _K.RepeatVector: shapes.repeat_vector,
    **dict.fromkeys((_K.Flatten, _K.Reshape), shapes.reshape),
    **dict.fromkeys((_K.Identity, _K.GaussianNoise, _K.GaussianDropout, _K.AlphaDropout, _K.ActivityRegularization),
                    ops.identity),
    **dict.fromkeys(AUGMENTING, ops.identity), _K.CenterCrop: windows.center_crop,
    _K.Dropout: dropouts.dropout, **_nd("SpatialDropout{}D", dropouts.spatial_dropout),
}  # fmt: skip
"""Layers whose `call` is this one's; the rest is opened."""

_PLAIN = {"Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Silu": "silu",
          "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Mish": "mish", "Selu": "selu", "Softsign": "softsign",
          "LeakyRelu": "leaky_relu", "Elu": "elu", "Gelu": "gelu", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Rsqrt": "rsqrt",
          "Square": "square", "Absolute": "absolute", "Abs": "absolute", "Erf": "erf"}  # fmt: skip
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum")
OPERATIONS: dict[str, Translation] = {
    **{name: partial(ops.plain, op) for name, op in _PLAIN.items()},
    **{name: partial(ops.arithmetic, name.lower()) for name in _ARITHMETIC},
    "TrueDivide": partial(ops.arithmetic, "divide"), "Negative": ops.negative, "Power": ops.power, "Clip": ops.clip,
    "Softmax": partial(ops.softmax, "softmax"), "LogSoftmax": partial(ops.softmax, "log_softmax"),
    "Mean": partial(ops.over, "mean"), "Sum": partial(ops.over, "sum"),
    **dict.fromkeys(("Max", "Amax"), partial(ops.over, "max")), "Normalize": unit_norm,
    "Pad": shapes.pad, "Resize": windows.resize_op, "Concatenate": ops.concatenate, "Stack": shapes.stack,
    "Transpose": shapes.permute, "Swapaxes": shapes.swap, "Moveaxis": shapes.move_axis, "Split": shapes.pieces,
    "Unstack": shapes.unstack,
    "Take": shapes.take, "Flip": shapes.flip, "Roll": shapes.roll, **dict.fromkeys(("Tile", "BroadcastTo"), shapes.broadcast),
    "Conv": windows.conv_op,
    "Matmul": shapes.matmul, "Einsum": shapes.einsum,
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), shapes.reshape), "GetItem": shapes.get_item,
    **dict.fromkeys(("Cast", "ConvertToTensor", "Identity", "StopGradient"), ops.identity),
}  # fmt: skip
"""keras.ops by the name of their class: the classes themselves are not public."""
