"""Which torch layers, functions and tensor methods have a translation, and which one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from crossxai.porting.from_torch_layers import (
    adaptive,
    avg_pool,
    batch_norm,
    broadcast,
    conv2d,
    conv_module,
    conv_transpose,
    interpolate,
    linear,
    max_pool,
    pad,
)
from crossxai.porting.from_torch_ops import (
    Call,
    Ref,
    activation,
    arithmetic,
    concatenate,
    dropout,
    elu,
    gelu,
    identity,
    index,
    leaky_relu,
    negative,
    over_space,
    reshape,
    reverse,
    softmax,
    softplus,
    stochastic_depth,
)

Translation = Callable[..., Ref]


def _of(function: Translation, *names: str) -> Translation:
    """The translation of a module whose forward calls this function with these attributes."""
    return lambda c, m, x: function(c, x, *(getattr(m, name) for name in names))


def _plain(op: str) -> Translation:
    return partial(activation, op)


def _zero_pad(c: Call, m: Any, x: Any) -> Ref:
    return pad(c, x, m.padding, value=m.value)


MODULES: dict[type[nn.Module], Translation] = {
    nn.Conv2d: conv_module,
    nn.ConvTranspose2d: conv_transpose,
    nn.Linear: _of(linear, "weight", "bias"),
    nn.ReLU: _of(_plain("relu")),
    nn.ReLU6: _of(_plain("relu6")),
    nn.Sigmoid: _of(_plain("sigmoid")),
    nn.Tanh: _of(_plain("tanh")),
    nn.SiLU: _of(_plain("silu")),
    nn.LeakyReLU: _of(leaky_relu, "negative_slope"),
    nn.ELU: _of(elu, "alpha"),
    nn.GELU: _of(gelu, "approximate"),
    nn.Softplus: _of(softplus, "beta"),
    nn.Softmax: _of(softmax, "dim"),
    nn.Softmax2d: lambda c, m, x: softmax(c, x, 1),
    nn.MaxPool2d: _of(max_pool, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    nn.AvgPool2d: _of(
        avg_pool, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    ),
    nn.AdaptiveAvgPool2d: _of(partial(adaptive, "avg"), "output_size"),
    nn.AdaptiveMaxPool2d: _of(partial(adaptive, "max"), "output_size", "return_indices"),
    nn.ZeroPad2d: _zero_pad,
    nn.ConstantPad2d: _zero_pad,
    nn.Upsample: _of(interpolate, "size", "scale_factor", "mode", "align_corners"),
    nn.UpsamplingNearest2d: _of(interpolate),
    nn.Flatten: _of(reshape),
    nn.Unflatten: _of(reshape),
    nn.Identity: _of(identity),
    nn.Dropout: _of(identity),
    nn.Dropout2d: _of(identity),
    nn.AlphaDropout: _of(identity),
}
for _norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm):
    MODULES[_norm] = lambda c, m, x: batch_norm(c, x, m.running_mean, m.running_var, m.weight, m.bias, eps=m.eps)

METHODS: dict[str, Translation] = {
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten"), reshape),
    **dict.fromkeys(("contiguous", "clone", "to", "type_as", "float", "double"), identity),
    **dict.fromkeys(("expand", "expand_as", "repeat"), broadcast),
    "mean": partial(over_space, "avg"),
    "amax": partial(over_space, "max"),
    "softmax": softmax,
    "neg": negative,
}
for _end in ("", "_"):
    METHODS |= {f"{name}{_end}": _plain(name) for name in ("relu", "sigmoid", "tanh")}
    for _name, _op in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("div", "divide")):
        METHODS[f"{_name}{_end}"] = partial(arithmetic, _op)

FUNCTIONS: dict[Any, Translation] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, F.relu_), _plain("relu")),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, F.sigmoid), _plain("sigmoid")),
    **dict.fromkeys((torch.tanh, torch.tanh_, F.tanh), _plain("tanh")),
    **dict.fromkeys((F.softmax, torch.softmax), softmax),
    **dict.fromkeys((operator.add, operator.iadd, torch.add), partial(arithmetic, "add")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, torch.subtract), partial(arithmetic, "subtract")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply), partial(arithmetic, "multiply")),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, torch.divide), partial(arithmetic, "divide")),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten), reshape),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concatenate),
    **dict.fromkeys((F.dropout, F.dropout2d, F.alpha_dropout), dropout),
    F.relu6: _plain("relu6"), F.silu: _plain("silu"), F.leaky_relu: leaky_relu, F.elu: elu, F.gelu: gelu,
    F.softplus: softplus, F.linear: linear, F.conv2d: conv2d, torch.conv2d: conv2d, F.batch_norm: batch_norm,
    F.max_pool2d: max_pool, torch.max_pool2d: max_pool, F.avg_pool2d: avg_pool,
    F.adaptive_avg_pool2d: partial(adaptive, "avg"), F.adaptive_max_pool2d: partial(adaptive, "max"),
    F.pad: pad, F.interpolate: interpolate, F.upsample: interpolate, torch.clone: identity,
    torch.mean: partial(over_space, "avg"), torch.amax: partial(over_space, "max"),
    operator.getitem: index, operator.neg: negative, torch.neg: negative, torch.rsub: partial(reverse, "subtract"),
}  # fmt: skip
try:
    from torchvision.ops import stochastic_depth as _stochastic_depth
except ImportError:
    pass
else:
    FUNCTIONS[_stochastic_depth] = stochastic_depth
