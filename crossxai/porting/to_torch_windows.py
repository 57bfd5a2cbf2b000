"""The torch modules of convolutions, pools, paddings and resizes, and what those of all ops share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.porting import layout
from crossxai.porting import torch_layers as ours
from crossxai.porting.building import none, read_at, widened
from crossxai.porting.layout import Order


@dataclass(frozen=True, eq=False)
class Value:
    """What a step gives: two samples of it, and the tensor's axis that each axis of the node is."""

    example: Tensor
    order: Order


Settings = Mapping[str, Any]
Weights = Mapping[str, Tensor]
Made = nn.Module | tuple[nn.Module, Order]
"""A module, and where its result has its axes unless as its input."""


def layer_kind(name: str, rank: int) -> Any:
    return getattr(nn, f"{name}{rank - 2}d")


def pads(padding: Any) -> tuple[int, ...]:
    """(before, after) of every axis of space, as torch pads: the last axis first."""
    return tuple(int(p) for pair in reversed(padding) for p in pair)


def zero_pad(padding: Any) -> nn.Module:
    made: nn.Module = getattr(nn, f"ZeroPad{len(padding)}d")(pads(padding))
    return made


def give(module: nn.Module, **parameters: Tensor | None) -> None:
    for name, values in parameters.items():
        if values is not None:
            setattr(module, name, nn.Parameter(values, requires_grad=False))


def conv(s: Settings, w: Weights, x: list[Value]) -> Made:
    kernel = w["kernel"].movedim((-1, -2), (0, 1)).contiguous()
    out, per_group, *size = kernel.shape
    even = all(before == after for before, after in s["padding"])
    padding = tuple(before for before, _ in s["padding"]) if even else 0
    kind = layer_kind("Conv", kernel.ndim)
    conv = kind(per_group * s["groups"], out, size, s["strides"], padding, s["dilation"], s["groups"], bias="bias" in w)
    give(conv, weight=kernel, bias=w.get("bias"))
    return conv if even else nn.Sequential(zero_pad(s["padding"]), conv)


def conv_transpose(s: Settings, w: Weights, x: list[Value]) -> Made:
    crop = s["crop"]
    # torch cuts the same on both sides, but for an output_padding smaller than the stride; the rest is cut afterwards.
    more = tuple(before - after for before, after in crop)
    fits = all(0 <= m < stride for m, stride in zip(more, s["strides"], strict=True))
    padding, extra = (tuple(before for before, _ in crop), more) if fits else (0, 0)
    values, crop = (w["kernel"].numpy(), crop) if fits else widened(w["kernel"].numpy(), crop)
    kernel = torch.from_numpy(values).movedim((-1, -2), (0, 1)).contiguous()
    inside, out, *size = kernel.shape
    kind = layer_kind("ConvTranspose", kernel.ndim)
    module = kind(inside, out, size, s["strides"], padding, extra, bias="bias" in w)
    give(module, weight=kernel, bias=w.get("bias"))
    return module if fits else nn.Sequential(module, zero_pad([[-a, -b] for a, b in crop]))


def max_pool(s: Settings, _w: Weights, x: list[Value]) -> Made:
    """The pool's own padding wherever it can: libraries that replace pools would meet minus infinity otherwise."""
    example = x[0].example
    kind, before = layer_kind("MaxPool", example.ndim), tuple(p for p, _ in s["padding"])
    if all(p <= k // 2 for p, k in zip(before, s["size"], strict=True)):
        wanted = tuple(
            (n + a + b - k) // stride + 1
            for n, (a, b), k, stride in zip(example.shape[2:], s["padding"], s["size"], s["strides"], strict=True)
        )
        for ceil_mode in (False, True):
            pool: nn.Module = kind(s["size"], s["strides"], before, ceil_mode=ceil_mode)
            if tuple(pool(example).shape[2:]) == wanted:
                return pool
    pad = getattr(nn, f"ConstantPad{len(before)}d")(pads(s["padding"]), -np.inf)
    return nn.Sequential(pad, kind(s["size"], s["strides"]))


def avg_pool(s: Settings, _w: Weights, x: list[Value]) -> Made:
    example, n = x[0].example, x[0].example.ndim - 2
    padding = s.get("padding", none(n))
    before = tuple(p for p, _ in padding)
    kind = layer_kind("AvgPool", example.ndim)
    if padding == none(n):
        return kind(s["size"], s["strides"])  # type: ignore[no-any-return]
    if all(a == b and a <= k // 2 for (a, b), k in zip(padding, s["size"], strict=True)):
        return kind(s["size"], s["strides"], before, count_include_pad=False)  # type: ignore[no-any-return]
    pool = partial(getattr(torch.nn.functional, f"avg_pool{n}d"), kernel_size=s["size"], stride=s["strides"])
    return ours.AvgPool(pool, pads(padding))


def adaptive(kind: str, s: Settings, _w: Weights, x: list[Value]) -> Made:
    made: nn.Module = layer_kind(f"Adaptive{kind}Pool", x[0].example.ndim)(s["size"])
    return made


def global_pool(kind: str, s: Settings, _w: Weights, x: list[Value]) -> Made:
    rank = x[0].example.ndim
    # Not AdaptiveMaxPool, which no library has a rule for.
    pool = (
        layer_kind("AdaptiveAvgPool", rank)(1)
        if kind == "avg"
        else layer_kind("MaxPool", rank)(tuple(x[0].example.shape[2:]))
    )
    return (pool, x[0].order) if s["keepdims"] else (nn.Sequential(pool, nn.Flatten()), layout.plain(2))


def pad(s: Settings, _w: Weights, x: list[Value]) -> Made:
    order, rank = x[0].order, x[0].example.ndim
    node = [(0, 0), *s["padding"], *[(0, 0)] * (rank - 1 - len(s["padding"]))]
    mine = [node[order.index(axis)] for axis in range(rank)]
    value = s["value"]
    if order == layout.channels_first(rank) and mine[1] == (0, 0) and rank > 2:
        n = rank - 2
        return zero_pad(mine[2:]) if value == 0 else getattr(nn, f"ConstantPad{n}d")(pads(mine[2:]), value)
    return ours.Function(torch.nn.functional.pad, pad=pads(mine[1:]), value=value)


def upsample(s: Settings, _w: Weights, _x: list[Value]) -> Made:
    smooth = s["method"] == "bilinear"
    factors = tuple(float(f) for f in s["factors"])
    return nn.Upsample(
        scale_factor=factors, mode="bilinear" if smooth else "nearest", align_corners=False if smooth else None
    )


def resize(s: Settings, _w: Weights, x: list[Value]) -> Made:
    sizes = x[0].example.shape[2:]
    if s["method"] == "nearest":
        return nn.Sequential(*(ours.Take(i + 2, [int(p) for p in places]) for i, places in enumerate(s["places"])))
    kind = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sizes)]
    matrices = [torch.from_numpy(read_at(n, p)) for n, p in zip(sizes, s["places"], strict=True)]
    exact = ours.Interpolate(matrices)
    probe = torch.rand(x[0].example[:1].shape, dtype=torch.float64)
    for corners in (False, True):  # torch's own layer, where it reads the same places
        module = nn.Upsample(size=s["size"], mode=kind, align_corners=corners)
        if torch.allclose(module(probe), exact(probe), rtol=0, atol=1e-12):
            return module
    return exact
