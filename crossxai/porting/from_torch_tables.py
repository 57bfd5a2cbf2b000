"""What every module, method and function of torch's is in a graph: the tables of all translations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from crossxai.porting import from_torch_dropout as dropouts
from crossxai.porting import from_torch_layers as layers
from crossxai.porting import from_torch_ops as ops
from crossxai.porting import from_torch_shapes as shapes
from crossxai.porting import from_torch_windows as windows

Translation = Callable[..., Any]


def _of(function: Translation, *names: str) -> Translation:
    """The translation of a module whose forward calls this function with these attributes."""
    return lambda c, m, *x: function(c, *x, *(getattr(m, name) for name in names))


def _plain(op: str) -> Translation:
    return partial(ops.activation, op)


_ACTIVATIONS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "silu": "SiLU",
    "hard_sigmoid": "Hardsigmoid",
    "hard_silu": "Hardswish",
    "mish": "Mish",
    "selu": "SELU",
    "softsign": "Softsign",
}
_SPACE = (1, 2, 3)
_POOL = ("kernel_size", "stride", "padding")
MODULES: dict[type[nn.Module], Translation] = {
    **windows.CONVOLUTIONS,
    nn.Linear: _of(layers.linear, "weight", "bias"),
    nn.Embedding: _of(layers.embedding, "weight", "padding_idx", "max_norm"),
    **{getattr(nn, name): _of(_plain(op)) for op, name in _ACTIVATIONS.items()},
    nn.LeakyReLU: _of(ops.leaky_relu, "negative_slope"),
    nn.PReLU: _of(ops.prelu, "weight"),
    nn.ELU: _of(ops.elu, "alpha"),
    nn.GELU: _of(ops.gelu, "approximate"),
    nn.Hardtanh: _of(ops.hardtanh, "min_val", "max_val"),
    nn.Softplus: _of(ops.softplus, "beta"),
    nn.Softmax: _of(partial(ops.softmax, "softmax"), "dim"),
    nn.LogSoftmax: _of(partial(ops.softmax, "log_softmax"), "dim"),
    nn.Softmax2d: lambda c, m, x: ops.softmax("softmax", c, x, 1),
    **{
        kind: _of(
            rule,
            *_POOL,
            *(
                ("dilation", "ceil_mode", "return_indices")
                if "Max" in kind.__name__
                else ("ceil_mode", "count_include_pad")
            ),
        )
        for kind, rule in windows.POOLS.items()
    },
    **{getattr(nn, f"AdaptiveAvgPool{n}d"): _of(partial(windows.adaptive, "avg", n), "output_size") for n in _SPACE},
    **{
        getattr(nn, f"AdaptiveMaxPool{n}d"): _of(partial(windows.adaptive, "max", n), "output_size", "return_indices")
        for n in _SPACE
    },
    **{
        getattr(nn, f"{kind}Pad{n}d"): partial(windows.pad_module, mode)
        for kind, mode in (
            ("Zero", "constant"),
            ("Constant", "constant"),
            ("Reflection", "reflect"),
            ("Replication", "replicate"),
            ("Circular", "circular"),
        )
        for n in _SPACE
    },
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), windows.upsampling),
    nn.PixelShuffle: _of(windows.pixel_shuffle, "upscale_factor"),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), _of(shapes.reshape)),
    **dict.fromkeys((nn.Identity, nn.AlphaDropout, nn.FeatureAlphaDropout), _of(ops.identity)),
    nn.Dropout: lambda c, m, x: dropouts.dropout(c, x, m.p, training=False),
    **dict.fromkeys(
        (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
        lambda c, m, x: dropouts.feature_dropout(c, x, m.p, training=False),
    ),
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        lambda c, m, x: layers.batch_norm(
            c, x, m.running_mean, m.running_var, m.weight, m.bias, momentum=m.momentum, eps=m.eps
        ),
    ),
    nn.LayerNorm: _of(layers.layer_norm, "normalized_shape", "weight", "bias", "eps"),
    nn.RMSNorm: _of(layers.rms_norm, "normalized_shape", "weight", "eps"),
    nn.GroupNorm: _of(layers.group_norm, "num_groups", "weight", "bias", "eps"),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), layers.instance_module),
    nn.MultiheadAttention: layers.multi_head,
}

_UNARY = {
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "square": "square",
    "abs": "absolute",
    "erf": "erf",
}
_METHODS = ("relu", "sigmoid", "tanh")
_ARITHMETIC = {
    "add": ("add",),
    "subtract": ("sub", "subtract"),
    "multiply": ("mul", "multiply"),
    "divide": ("div", "divide", "true_divide"),
    "maximum": ("maximum",),
    "minimum": ("minimum",),
}
METHODS: dict[str, Translation] = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as"), shapes.reshape
    ),
    **dict.fromkeys(("contiguous", "clone", "to", "type_as", "float", "double", "detach", "long", "int"), ops.identity),
    **dict.fromkeys(("expand", "expand_as", "repeat", "tile", "broadcast_to"), shapes.broadcast),
    "permute": shapes.permute,
    "transpose": shapes.transpose,
    "swapaxes": shapes.transpose,
    "t": shapes.turned,
    "movedim": shapes.movedim,
    "moveaxis": shapes.movedim,
    "chunk": shapes.pieces,
    "split": shapes.pieces,
    "tensor_split": shapes.pieces,
    "unbind": shapes.unbind,
    "select": shapes.select,
    "narrow": shapes.narrow,
    "index_select": shapes.index_select,
    "flip": shapes.flip,
    "roll": shapes.roll,
    "matmul": shapes.matmul,
    "bmm": shapes.matmul,
    "repeat_interleave": shapes.repeat_interleave,
    "masked_fill": ops.masked_fill,
    "mean": partial(ops.over, "mean"),
    "sum": partial(ops.over, "sum"),
    "amax": partial(ops.over, "max"),
    "softmax": partial(ops.softmax, "softmax"),
    "log_softmax": partial(ops.softmax, "log_softmax"),
    "neg": ops.negative,
    "clamp": ops.clip,
    "clip": ops.clip,
    "pow": ops.power,
    **{name: partial(ops.unary, op) for name, op in _UNARY.items()},
}
for _end in ("", "_"):
    METHODS |= {f"{name}{_end}": _plain(name) for name in _METHODS}
    METHODS |= {
        f"{name}{_end}": partial(ops.arithmetic, op) for op, names in _ARITHMETIC.items() for name in names
    }  # fmt: skip

FUNCTIONS: dict[Any, Translation] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, F.relu_), _plain("relu")),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, F.sigmoid), _plain("sigmoid")),
    **dict.fromkeys((torch.tanh, torch.tanh_, F.tanh), _plain("tanh")),
    F.relu6: _plain("relu6"),
    F.silu: _plain("silu"),
    F.hardsigmoid: _plain("hard_sigmoid"),
    F.hardswish: _plain("hard_silu"),
    F.mish: _plain("mish"),
    F.softsign: _plain("softsign"),
    **dict.fromkeys((F.selu, torch.selu), _plain("selu")),
    **dict.fromkeys((F.softmax, torch.softmax), partial(ops.softmax, "softmax")),
    **dict.fromkeys((F.log_softmax, torch.log_softmax), partial(ops.softmax, "log_softmax")),
    **{getattr(torch, name): partial(ops.unary, op) for name, op in _UNARY.items()},
    **{getattr(torch, name): partial(ops.arithmetic, op) for op, names in _ARITHMETIC.items() for name in names},
    **{
        getattr(operator, f"{end}{name}"): partial(ops.arithmetic, op)
        for op, name in (("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("divide", "truediv"))
        for end in ("", "i")
    },
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten), shapes.reshape),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), ops.concatenate),
    torch.stack: shapes.stack,
    **dict.fromkeys((torch.chunk, torch.split, torch.tensor_split, torch.functional.split), shapes.pieces),
    **dict.fromkeys((torch.transpose, torch.swapaxes), shapes.transpose),
    torch.permute: shapes.permute,
    **dict.fromkeys((torch.movedim, torch.moveaxis), shapes.movedim),
    torch.unbind: shapes.unbind,
    torch.select: shapes.select,
    torch.narrow: shapes.narrow,
    torch.index_select: shapes.index_select,
    torch.flip: shapes.flip,
    torch.roll: shapes.roll,
    torch.repeat_interleave: shapes.repeat_interleave,
    **dict.fromkeys((torch.matmul, torch.bmm, operator.matmul), shapes.matmul),
    torch.einsum: shapes.einsum,
    F.scaled_dot_product_attention: layers.attention,
    F.multi_head_attention_forward: layers.multi_head_function,
    torch.tile: shapes.broadcast,
    torch.broadcast_to: shapes.broadcast,
    F.dropout: dropouts.dropout,
    **dict.fromkeys((F.dropout1d, F.dropout2d, F.dropout3d), dropouts.feature_dropout),
    F.alpha_dropout: dropouts.alpha_dropout,
    F.leaky_relu: ops.leaky_relu,
    F.elu: ops.elu,
    F.gelu: ops.gelu,
    F.softplus: ops.softplus,
    F.hardtanh: ops.hardtanh,
    **dict.fromkeys((F.prelu, torch.prelu), ops.prelu),
    **dict.fromkeys((torch.clamp, torch.clip), ops.clip),
    **dict.fromkeys((torch.pow, operator.pow), ops.power),
    torch.masked_fill: ops.masked_fill,
    F.linear: layers.linear,
    F.embedding: layers.embedding,
    F.batch_norm: layers.batch_norm,
    F.layer_norm: layers.layer_norm,
    F.group_norm: layers.group_norm,
    F.instance_norm: layers.instance_norm,
    F.rms_norm: layers.rms_norm,
    F.normalize: ops.unit_norm,
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), windows.conv),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), windows.conv_transpose),
    **{getattr(F, f"max_pool{n}d"): partial(windows.max_pool, n) for n in _SPACE},
    **{getattr(torch, f"max_pool{n}d"): partial(windows.max_pool, n) for n in _SPACE},
    **{getattr(F, f"avg_pool{n}d"): partial(windows.avg_pool, n) for n in _SPACE},
    **{getattr(F, f"adaptive_avg_pool{n}d"): partial(windows.adaptive, "avg", n) for n in _SPACE},
    **{getattr(F, f"adaptive_max_pool{n}d"): partial(windows.adaptive, "max", n) for n in _SPACE},
    F.pad: windows.pad,
    F.interpolate: windows.interpolate,
    F.upsample: windows.interpolate,
    **dict.fromkeys((F.pixel_shuffle, torch.pixel_shuffle), windows.pixel_shuffle),
    **dict.fromkeys((torch.clone, torch.detach), ops.identity),
    torch.mean: partial(ops.over, "mean"),
    torch.sum: partial(ops.over, "sum"),
    torch.amax: partial(ops.over, "max"),
    operator.getitem: shapes.index,
    getattr: shapes.attribute,
    operator.neg: ops.negative,
    torch.neg: ops.negative,
    torch.addcmul: ops.addcmul,
    torch.rsub: partial(ops.reverse, "subtract"),
}
try:
    from torchvision.ops import stochastic_depth as _stochastic_depth
except ImportError:
    pass
else:
    FUNCTIONS[_stochastic_depth] = dropouts.stochastic_depth
