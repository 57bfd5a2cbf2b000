"""The torch module of every op of a graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.porting import layout
from crossxai.porting import to_torch_windows as windows
from crossxai.porting import torch_layers as ours
from crossxai.porting.layout import Order
from crossxai.porting.to_torch_windows import Made, Settings, Value, Weights

_SPACE = (1, 2, 3)


def _dense(s: Settings, w: Weights, x: list[Value]) -> Made:
    module = nn.Linear(w["kernel"].shape[0], w["kernel"].shape[1], bias="bias" in w)
    windows.give(module, weight=w["kernel"].T.contiguous(), bias=w.get("bias"))
    return module


def _embedding(s: Settings, w: Weights, x: list[Value]) -> Made:
    module = ours.Embed(*w["table"].shape)
    windows.give(module, weight=w["table"])
    return module, layout.plain(x[0].example.ndim + 1)


def _attention(s: Settings, w: Weights, x: list[Value]) -> Made:
    query, key, value, output = (w[name].T.contiguous() for name in ("query", "key", "value", "output"))
    width, out, rate = len(query), len(output), s.get("dropout", 0.0)
    if len(value) != width or out != width or query.shape[1] != width:
        return _attention_by_hand(s, w), layout.plain(3)
    module = ours.Attention(
        width, s["heads"], rate, "query_bias" in w, kdim=key.shape[1], vdim=value.shape[1], batch_first=True,
        mask=w.get("mask"),
    )  # fmt: skip
    if module.in_proj_weight is not None:
        windows.give(module, in_proj_weight=torch.cat([query, key, value]))
    else:
        windows.give(module, q_proj_weight=query, k_proj_weight=key, v_proj_weight=value)
    windows.give(module.out_proj, weight=output, bias=w.get("output_bias"))
    if "query_bias" in w:
        windows.give(module, in_proj_bias=torch.cat([w["query_bias"], w["key_bias"], w["value_bias"]]))
    return module, layout.plain(3)


def _attention_by_hand(s: Settings, w: Weights) -> nn.Module:
    """Heads whose widths torch's own layer does not know."""
    parts = {}
    for name in ("query", "key", "value", "output"):
        dense: Any = _dense({}, {"kernel": w[name]} | ({"bias": w[f"{name}_bias"]} if f"{name}_bias" in w else {}), [])
        parts[name] = dense
    return ours.FreeAttention(s["heads"], **parts, dropout=s.get("dropout", 0.0), mask=w.get("mask"))


def _dropout(s: Settings, w: Weights, x: list[Value]) -> nn.Module:
    rank, axes = x[0].example.ndim, sorted(x[0].order[axis] for axis in s["together"])
    if rank > 2 and axes == list(range(2, rank)):
        return windows.layer_kind("Dropout", rank)(s["rate"])  # type: ignore[no-any-return]
    return ours.DropTogether(s["rate"], axes) if axes else nn.Dropout(s["rate"])


def _affine(w: Weights) -> bool:
    return "gamma" in w or "beta" in w


def _given(norm: Any, w: Weights) -> Any:
    """A norm with the weights that it has."""
    windows.give(norm, weight=w.get("gamma"), bias=w.get("beta"))
    missing = {"weight": "gamma" not in w, "bias": "beta" not in w} if _affine(w) else {}
    return ours.without(norm, *(name for name, gone in missing.items() if gone))


def _batch_norm(s: Settings, w: Weights, x: list[Value]) -> Made:
    rank = x[0].example.ndim
    kind = windows.layer_kind("BatchNorm", max(rank, 3))
    module = _given(kind(len(w["mean"]), eps=s["eps"], momentum=s.get("momentum", 0.1), affine=_affine(w)), w)
    module.running_mean, module.running_var = w["mean"], w["variance"]
    return module  # type: ignore[no-any-return]


def _layer_norm(s: Settings, w: Weights, x: list[Value]) -> Made:
    shape = x[0].example.shape[-s["axes"] :]
    return _given(nn.LayerNorm(shape, s["eps"], _affine(w), bias="beta" in w), w)  # type: ignore[no-any-return]


def _rms_norm(s: Settings, w: Weights, x: list[Value]) -> Made:
    module = nn.RMSNorm(x[0].example.shape[-s["axes"] :], s["eps"], "gamma" in w)
    windows.give(module, weight=w.get("gamma"))
    return module


def _group_norm(s: Settings, w: Weights, x: list[Value]) -> Made:
    rank, channels = x[0].example.ndim, x[0].example.shape[1]
    if s["groups"] == channels and rank > 2:
        module = windows.layer_kind("InstanceNorm", rank)(channels, s["eps"], affine=_affine(w))
    else:
        module = nn.GroupNorm(s["groups"], channels, s["eps"], _affine(w))
    return _given(module, w)  # type: ignore[no-any-return]


def _along(values: Tensor, x: Value) -> Tensor:
    """() or (c,) of the node's last axis, as the tensor needs it to broadcast."""
    shape = [1] * x.example.ndim
    shape[x.order[-1]] = -1
    first = next(i for i, size in enumerate(shape) if size != 1)
    return values.reshape(shape[first:]) if values.ndim else values


def _standardise(s: Settings, w: Weights, x: list[Value]) -> Made:
    return ours.Standardise(_along(w["mean"], x[0]), _along(w["sd"], x[0]))


def _permuted(values: Tensor, order: Order) -> Tensor:
    """Values of the node's axes but the samples', with the tensor's axes."""
    return values[None].permute(layout.inverse(order))[0]


def _prelu(s: Settings, w: Weights, x: list[Value]) -> Made:
    alpha, rank = w["alpha"], x[0].example.ndim
    if alpha.numel() == 1 or (alpha.numel() == alpha.shape[-1] and x[0].order[-1] == 1):
        module = nn.PReLU(alpha.numel())
        windows.give(module, weight=alpha.reshape(-1))
        return module
    return ours.FreePReLU(_permuted(alpha.reshape((1,) * (rank - 1 - alpha.ndim) + tuple(alpha.shape)), x[0].order))


def _flatten(s: Settings, _w: Weights, x: list[Value]) -> Made:
    example = x[0].example
    last = x[0].order == layout.plain(example.ndim)
    if last or s["order"] == "channels_first" or set(example.shape[2:]) == {1}:
        return nn.Flatten(), layout.plain(2)
    return ours.FlattenChannelsLast(), layout.plain(2)


def _reshape(s: Settings, _w: Weights, x: list[Value]) -> Made:
    example, order = x[0].example, x[0].order
    shape = (example.numel() // int(np.prod(s["shape"])), *s["shape"])
    node = [example.shape[axis] for axis in order]
    found = layout.reshaped(node, shape, layout.inverse(order))
    if found is None:  # axes that torch has not side by side
        plain = ours.Permute(*order)
        return nn.Sequential(plain, ours.Reshape(s["shape"])), layout.plain(len(shape))
    mine, turned = found
    if len(mine) == 2 < example.ndim and mine[0] == len(example):
        return nn.Flatten(), layout.inverse(turned)
    return ours.Reshape(mine[1:]), layout.inverse(turned)


def _transpose(s: Settings, _w: Weights, x: list[Value]) -> Made:
    """The tensor itself: only where the node has its axes is new."""
    return nn.Identity(), tuple(x[0].order[axis] for axis in s["axes"])


def _reduce(function: Any, s: Settings, _w: Weights, x: list[Value]) -> Made:
    order = x[0].order
    module = ours.Function(function, dim=tuple(order[axis] for axis in s["axes"]), keepdim=s["keepdims"])
    return module, order if s["keepdims"] else layout.without(order, s["axes"])


def _softmax(kind: Any, s: Settings, _w: Weights, x: list[Value]) -> Made:
    axis, rank = x[0].order[s.get("axis", -1)], x[0].example.ndim
    return kind(-1 if axis == rank - 1 else axis)  # type: ignore[no-any-return]


def _einsum(s: Settings, _w: Weights, x: list[Value]) -> Made:
    terms, out = s["equation"].split("->")
    turned = [
        "".join(term[value.order.index(axis)] for axis in range(len(term)))
        for term, value in zip(terms.split(","), x, strict=True)
    ]
    return ours.Einsum(f"{','.join(turned)}->{out}"), layout.plain(len(out))


def _constant(s: Settings, w: Weights, x: list[Value]) -> Made:
    value = w["value"]
    like = len(x[0].order) == value.ndim + 1
    order = x[0].order if like else layout.plain(value.ndim + 1)
    return ours.Constant(_permuted(value, order), s.get("trains", True)), order


def _tile(s: Settings, _w: Weights, x: list[Value]) -> Made:
    times = (1, *s["times"])
    order = x[0].order
    return ours.Function(torch.tile, dims=tuple(times[order.index(axis)] for axis in range(len(order))))


Maker = Callable[[Settings, Weights, list[Value]], Made]


def _of(kind: Callable[..., nn.Module], *args: Any, **settings: str) -> Maker:
    """A module with these arguments; settings: its argument -> the node's setting."""
    return lambda s, w, x: kind(*args, **{name: s[setting] for name, setting in settings.items()})


_FUNCTIONS = {"exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "square": torch.square,
              "absolute": torch.abs, "erf": torch.erf}  # fmt: skip
MAKERS: dict[str, Maker] = {
    **{f"conv{n}d": windows.conv for n in _SPACE},
    **{f"conv_transpose{n}d": windows.conv_transpose for n in _SPACE},
    **{f"max_pool{n}d": windows.max_pool for n in _SPACE},
    **{f"avg_pool{n}d": windows.avg_pool for n in _SPACE},
    **{f"adaptive_avg_pool{n}d": partial(windows.adaptive, "Avg") for n in _SPACE},
    **{f"adaptive_max_pool{n}d": partial(windows.adaptive, "Max") for n in _SPACE},
    "global_avg_pool": partial(windows.global_pool, "avg"),
    "global_max_pool": partial(windows.global_pool, "max"),
    "dense": _dense,
    "embedding": _embedding,
    "multi_head_attention": _attention,
    "einsum": _einsum,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "unit_norm": lambda s, w, x: ours.Function(torch.nn.functional.normalize, dim=x[0].order[s["axis"]]),
    "standardise": _standardise,
    "affine": lambda s, w, x: ours.Affine(s["factor"], s["term"]),
    "scale": lambda s, w, x: ours.Scale(_along(w["scale"], x[0]), s["trains"]),
    "constant": _constant,
    "dropout": _dropout,
    "relu": _of(nn.ReLU),
    "relu6": _of(nn.ReLU6),
    "leaky_relu": _of(nn.LeakyReLU, negative_slope="slope"),
    "prelu": _prelu,
    "elu": _of(nn.ELU, alpha="alpha"),
    "sigmoid": _of(nn.Sigmoid),
    "tanh": _of(nn.Tanh),
    "softplus": _of(nn.Softplus, 1, 30),  # above 20, torch's own threshold, the identity is 2e-9 off
    "softmax": partial(_softmax, nn.Softmax),
    "log_softmax": partial(_softmax, nn.LogSoftmax),
    "gelu": lambda s, w, x: nn.GELU("tanh" if s["approximate"] else "none"),
    "silu": _of(nn.SiLU),
    "hard_sigmoid": _of(nn.Hardsigmoid),
    "hard_silu": _of(nn.Hardswish),
    "mish": _of(nn.Mish),
    "selu": _of(nn.SELU),
    "softsign": _of(nn.Softsign),
    "clip": _of(ours.Function, torch.clamp, min="low", max="high"),
    "power": _of(ours.Function, torch.pow, exponent="exponent"),
    **{name: _of(ours.Function, function) for name, function in _FUNCTIONS.items()},
    "mean": partial(_reduce, torch.mean),
    "sum": partial(_reduce, torch.sum),
    "max": partial(_reduce, torch.amax),
    "pad": windows.pad,
    "upsample2d": windows.upsample,
    "resize": windows.resize,
    "flatten": _flatten,
    "expand": lambda s, w, x: (nn.Unflatten(1, (x[0].example.shape[1], 1, 1)), layout.channels_first(4)),
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": lambda s, w, x: ours.Slice(x[0].order[s["axis"]], s["start"], s["stop"], s["step"]),
    "take": lambda s, w, x: ours.Take(x[0].order[s["axis"]], s["indices"]),
    "roll": lambda s, w, x: ours.Function(torch.roll, shifts=s["shift"], dims=x[0].order[s["axis"]]),
    "tile": _tile,
    "add": _of(ours.Add),
    "subtract": _of(ours.Subtract),
    "multiply": _of(ours.Multiply),
    "divide": _of(ours.Divide),
    "maximum": _of(ours.Maximum),
    "minimum": _of(ours.Minimum),
    "concatenate": lambda s, w, x: ours.Concatenate(x[0].order[s["axis"]]),
}  # fmt: skip

IMAGES = frozenset({
    *(name for name in MAKERS if name[-2:] in ("1d", "2d", "3d")), "global_avg_pool", "global_max_pool", "batch_norm",
    "group_norm", "resize",
})  # fmt: skip
"""Ops whose modules take channels first."""
PLAIN = frozenset({"dense", "embedding", "multi_head_attention", "layer_norm", "rms_norm"})
"""Ops whose modules take the channels last."""
