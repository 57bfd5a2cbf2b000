"""What torch layers are in a graph, in the signatures of torch's functions; and the tables of all translations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from crossxai.model import Array
from crossxai.porting import from_torch_ops as ops
from crossxai.porting.building import NONE, Padding
from crossxai.porting.from_torch_ops import Call, Ref, array, both_sides, pair


def _weighted(bias: Any, **weights: Array) -> dict[str, Array]:
    return weights if bias is None else {**weights, "bias": array(bias)}


def conv2d(
    c: Call,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Ref:
    c.check(x, 4)
    reach = [d * (k - 1) for d, k in zip(pair(dilation), weight.shape[2:], strict=True)]
    if padding == "same":
        top, left = reach[0] // 2, reach[1] // 2
        sides: Padding = ((top, reach[0] - top), (left, reach[1] - left))
    else:
        sides = both_sides(0 if padding == "valid" else padding)
    weights = _weighted(bias, kernel=array(weight).transpose(2, 3, 1, 0))
    return c.node(
        "conv2d", x, weights=weights, strides=pair(stride), dilation=pair(dilation), groups=groups, padding=sides
    )


def conv_module(c: Call, m: nn.Conv2d, x: Any) -> Ref:
    if m.padding_mode != "zeros":
        raise c.fail(f"padding_mode={m.padding_mode!r}; only zeros")
    return conv2d(c, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


def conv_transpose(c: Call, m: nn.ConvTranspose2d, x: Any) -> Ref:
    c.check(x, 4)
    if m.groups != 1 or pair(m.dilation) != (1, 1):
        raise c.fail(f"groups={m.groups}, dilation={m.dilation}; only 1")
    crop = tuple((p, p - o) for p, o in zip(pair(m.padding), pair(m.output_padding), strict=True))
    weights = _weighted(m.bias, kernel=array(m.weight).transpose(2, 3, 1, 0))
    return c.node("conv_transpose2d", x, weights=weights, strides=pair(m.stride), crop=crop)


def linear(c: Call, x: Any, weight: Any, bias: Any = None) -> Ref:
    return c.node("dense", c.check(x, 2, 3), weights=_weighted(bias, kernel=array(weight).T.copy()))


def batch_norm(
    c: Call,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Ref:
    if training or running_mean is None:
        raise c.fail("it normalises by the batch at hand, so samples depend on each other")
    mean, variance = array(running_mean), array(running_var)
    gamma = np.ones_like(mean) if weight is None else array(weight)
    beta = np.zeros_like(mean) if bias is None else array(bias)
    weights = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return c.node("batch_norm", c.check(x, 2, 4), weights=weights, eps=float(eps))


def _windows(
    c: Call, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> tuple[tuple[int, int], tuple[int, int], Padding]:
    """(size, strides, padding) of a pool; what ceil_mode adds is enough at the bottom and right for the last window."""
    size, sides = pair(kernel_size), both_sides(padding)
    strides = pair(stride) if stride else size
    if ceil_mode:
        steps = zip(c.check(x, 4).value.shape[2:], c.result.shape[2:], size, strides, pair(padding), strict=True)
        (top, left) = [(p, max(p, (out - 1) * s + k - n - p)) for n, out, k, s, p in steps]
        sides = (top, left)
    return size, strides, sides


def max_pool(
    c: Call,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Ref:
    if pair(dilation) != (1, 1):
        raise c.fail(f"dilation={dilation}; only 1")
    size, strides, sides = _windows(c, x, kernel_size, stride, padding, ceil_mode)
    return c.node("max_pool2d", c.check(x, 4), size=size, strides=strides, padding=sides)


def avg_pool(
    c: Call,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Ref:
    size, strides, sides = _windows(c, x, kernel_size, stride, padding, ceil_mode)
    if divisor_override or sides != both_sides(padding):
        raise c.fail("divisor_override, or a ceil_mode that adds a window for this size: its means count other pixels")
    if sides != NONE and not count_include_pad:
        raise c.fail("count_include_pad=False with padding: means over fewer pixels at the border")
    if sides != NONE:
        padded = c.builder.add(f"{c.name}.pad", "pad", (c.check(x, 4).name,), padding=sides, value=0.0)
        x = Ref(padded, x.value)
    return c.node("avg_pool2d", c.check(x, 4), size=size, strides=strides)


def adaptive(kind: str, c: Call, x: Any, output_size: Any, return_indices: bool = False) -> Ref:
    sizes = tuple(c.check(x, 4).value.shape[2:])
    outs = tuple(c.result.shape[2:])
    if outs == (1, 1):
        return c.node(f"global_{kind}_pool", x, keepdims=True)
    if any(n % o for n, o in zip(sizes, outs, strict=True)):
        raise c.fail(f"{sizes} to {outs}: windows of different sizes")
    size = tuple(n // o for n, o in zip(sizes, outs, strict=True))
    padding: dict[str, Any] = {"padding": NONE} if kind == "max" else {}
    return c.node(f"{kind}_pool2d", x, size=size, strides=size, **padding)


def pad(c: Call, x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Ref:
    value = float(value or 0)
    left, right, top, bottom = (int(p) for p in (*pad, 0, 0)[:4])
    if mode != "constant" or value not in (0.0, -np.inf) or len(pad) not in (2, 4):
        raise c.fail(f"pads by {tuple(pad)}, mode {mode!r}, value {value}; only height and width, by zeros")
    return c.node("pad", c.check(x, 4), padding=((top, bottom), (left, right)), value=value)


def interpolate(
    c: Call,
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Ref:
    before, after = c.check(x, 4).value.shape[2:], c.result.shape[2:]
    if tuple(before) == (1, 1):
        mode = "nearest"  # one pixel is repeated, whatever the method
    elif mode not in ("nearest", "nearest-exact", "bilinear") or align_corners:
        raise c.fail(f"mode={mode!r}, align_corners={align_corners}; only nearest, and bilinear without align_corners")
    if any(b % a for a, b in zip(before, after, strict=True)):
        raise c.fail(f"{tuple(before)} to {tuple(after)}; only whole factors")
    factors = tuple(b // a for a, b in zip(before, after, strict=True))
    return c.node("upsample2d", x, factors=factors, method="bilinear" if mode == "bilinear" else "nearest")


def broadcast(c: Call, x: Any, *_sizes: Any) -> Ref:
    """One pixel repeated over space is an upsampling."""
    if c.check(x, 4).value.shape[:2] != c.result.shape[:2]:
        raise c.fail("repeats samples or channels")
    return interpolate(c, x)


Translation = Callable[..., Ref]


def _of(function: Translation, *names: str) -> Translation:
    """The translation of a module whose forward calls this function with these attributes."""
    return lambda c, m, x: function(c, x, *(getattr(m, name) for name in names))


def _plain(op: str) -> Translation:
    return partial(ops.activation, op)


def _zero_pad(c: Call, m: Any, x: Any) -> Ref:
    return pad(c, x, m.padding, value=m.value)


MODULES: dict[type[nn.Module], Translation] = {
    nn.Conv2d: conv_module,
    nn.ConvTranspose2d: conv_transpose,
    nn.Linear: _of(linear, "weight", "bias"),
    **{kind: _of(_plain(kind.__name__.lower())) for kind in (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.SiLU)},
    nn.LeakyReLU: _of(ops.leaky_relu, "negative_slope"),
    nn.ELU: _of(ops.elu, "alpha"),
    nn.GELU: _of(ops.gelu, "approximate"),
    nn.Softplus: _of(ops.softplus, "beta"),
    nn.Softmax: _of(ops.softmax, "dim"),
    nn.Softmax2d: lambda c, m, x: ops.softmax(c, x, 1),
    nn.MaxPool2d: _of(max_pool, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    nn.AvgPool2d: _of(
        avg_pool, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    ),
    nn.AdaptiveAvgPool2d: _of(partial(adaptive, "avg"), "output_size"),
    nn.AdaptiveMaxPool2d: _of(partial(adaptive, "max"), "output_size", "return_indices"),
    **dict.fromkeys((nn.ZeroPad2d, nn.ConstantPad2d), _zero_pad),
    nn.Upsample: _of(interpolate, "size", "scale_factor", "mode", "align_corners"),
    nn.UpsamplingNearest2d: _of(interpolate),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), _of(ops.reshape)),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout), _of(ops.identity)),
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm),
        lambda c, m, x: batch_norm(c, x, m.running_mean, m.running_var, m.weight, m.bias, eps=m.eps),
    ),
}

METHODS: dict[str, Translation] = {
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten"), ops.reshape),
    **dict.fromkeys(("contiguous", "clone", "to", "type_as", "float", "double"), ops.identity),
    **dict.fromkeys(("expand", "expand_as", "repeat"), broadcast),
    "mean": partial(ops.over_space, "avg"),
    "amax": partial(ops.over_space, "max"),
    "softmax": ops.softmax,
    "neg": ops.negative,
}
for _end in ("", "_"):
    METHODS |= {f"{name}{_end}": _plain(name) for name in ("relu", "sigmoid", "tanh")}
    for _name, _op in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("div", "divide")):
        METHODS[f"{_name}{_end}"] = partial(ops.arithmetic, _op)

FUNCTIONS: dict[Any, Translation] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, F.relu_), _plain("relu")),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, F.sigmoid), _plain("sigmoid")),
    **dict.fromkeys((torch.tanh, torch.tanh_, F.tanh), _plain("tanh")),
    **dict.fromkeys((F.softmax, torch.softmax), ops.softmax),
    **dict.fromkeys((operator.add, operator.iadd, torch.add), partial(ops.arithmetic, "add")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, torch.subtract), partial(ops.arithmetic, "subtract")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply), partial(ops.arithmetic, "multiply")),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, torch.divide), partial(ops.arithmetic, "divide")),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten), ops.reshape),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), ops.concatenate),
    **dict.fromkeys((F.dropout, F.dropout2d, F.alpha_dropout), ops.dropout),
    F.relu6: _plain("relu6"), F.silu: _plain("silu"), F.leaky_relu: ops.leaky_relu, F.elu: ops.elu, F.gelu: ops.gelu,
    F.softplus: ops.softplus, F.linear: linear, F.conv2d: conv2d, torch.conv2d: conv2d, F.batch_norm: batch_norm,
    F.max_pool2d: max_pool, torch.max_pool2d: max_pool, F.avg_pool2d: avg_pool,
    F.adaptive_avg_pool2d: partial(adaptive, "avg"), F.adaptive_max_pool2d: partial(adaptive, "max"),
    F.pad: pad, F.interpolate: interpolate, F.upsample: interpolate, torch.clone: ops.identity,
    torch.mean: partial(ops.over_space, "avg"), torch.amax: partial(ops.over_space, "max"),
    operator.getitem: ops.index, operator.neg: ops.negative, torch.neg: ops.negative,
    torch.rsub: partial(ops.reverse, "subtract"),
}  # fmt: skip
try:
    from torchvision.ops import stochastic_depth as _stochastic_depth
except ImportError:
    pass
else:
    FUNCTIONS[_stochastic_depth] = ops.stochastic_depth
