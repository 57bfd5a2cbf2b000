"""What torch's convolutions, pools, paddings and resizes are in a graph, in one, two or three dimensions of space."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from crossxai.model import Array
from crossxai.porting import from_torch_shapes as shapes
from crossxai.porting import layout
from crossxai.porting.building import Padding, none
from crossxai.porting.from_torch_ops import Call, Ref, array


def weighted(bias: Any, **weights: Array) -> dict[str, Array]:
    return weights if bias is None else {**weights, "bias": array(bias)}


def several(value: Any, n: int) -> tuple[int, ...]:
    """One number per dimension of space, of one number for all or of one each."""
    every = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(int(v) for v in (every * n if len(every) == 1 else every))


def both_sides(padding: Any, n: int) -> Padding:
    """As much at either end of every axis."""
    return tuple((p, p) for p in several(padding, n))


def _spatial(c: Call, x: Any, n: int) -> Ref:
    """The activation with its samples, channels and n dimensions of space."""
    return c.image(x, n + 2)


def conv(
    c: Call,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Ref:
    n = weight.ndim - 2
    x, dilation = _spatial(c, x, n), several(dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if padding == "same":
        sides: Padding = tuple((r // 2, r - r // 2) for r in reach)
    else:
        sides = both_sides(0 if padding == "valid" else padding, n)
    weights = weighted(bias, kernel=np.moveaxis(array(weight), (1, 0), (-2, -1)).copy())
    return c.node(
        f"conv{n}d", x, weights=weights, strides=several(stride, n), dilation=dilation, groups=groups, padding=sides
    )


def conv_module(c: Call, m: Any, x: Any) -> Ref:
    if m.padding_mode == "zeros":
        return conv(c, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
    pairs = list(
        reversed([tuple(m._reversed_padding_repeated_twice[i : i + 2]) for i in range(0, 2 * (x.value.ndim - 2), 2)])
    )
    for i, (before, after) in enumerate(pairs):
        x = _repeated(c, x, i + 2, before, after, m.padding_mode)
    return conv(c, x, m.weight, m.bias, m.stride, 0, m.dilation, m.groups)


def conv_transpose(
    c: Call,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Ref:
    n = weight.ndim - 2
    x, strides = _spatial(c, x, n), several(stride, n)
    crop = tuple((p, p - o) for p, o in zip(several(padding, n), several(output_padding, n), strict=True))
    kernel = np.moveaxis(array(weight), (1, 0), (-2, -1))
    for axis, d in enumerate(several(dilation, n)):  # a dilated kernel is a larger one with zeros
        if d > 1:
            wide = np.zeros(
                (*kernel.shape[:axis], d * (kernel.shape[axis] - 1) + 1, *kernel.shape[axis + 1 :]), kernel.dtype
            )
            wide[(slice(None),) * axis + (slice(None, None, d),)] = kernel
            kernel = wide
    settings: dict[str, Any] = {"strides": strides, "crop": crop}
    if groups == 1:
        return c.node(f"conv_transpose{n}d", x, weights=weighted(bias, kernel=kernel.copy()), **settings)
    parts, size = [], kernel.shape[-1] // groups
    for i in range(groups):
        part = shapes.part(c, x, 1, slice(i * size, (i + 1) * size))
        weights = {"kernel": kernel[..., i * size : (i + 1) * size].copy()}
        if bias is not None:
            weights["bias"] = array(bias)[i * kernel.shape[-2] : (i + 1) * kernel.shape[-2]]
        parts.append(c.builder.add(f"{c.name}.group", f"conv_transpose{n}d", (part.name,), weights, **settings))
    return Ref(c.builder.add(c.name, "concatenate", parts, axis=n + 1), c.result, x.order)


def conv_transpose_module(c: Call, m: Any, x: Any, output_size: Any = None) -> Ref:
    if output_size is not None:
        raise c.fail("with an output_size of its own")
    return conv_transpose(c, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)


def _windows(
    c: Call, x: Ref, n: int, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> tuple[tuple[int, ...], tuple[int, ...], Padding]:
    """(size, strides, padding) of a pool; what ceil_mode adds is enough at the end of an axis for the last window."""
    size, sides = several(kernel_size, n), both_sides(padding, n)
    strides = several(stride, n) if stride else size
    if ceil_mode:
        steps = zip(x.value.shape[2:], c.result.shape[2:], size, strides, several(padding, n), strict=True)
        sides = tuple((p, max(p, (out - 1) * s + k - length - p)) for length, out, k, s, p in steps)
    return size, strides, sides


def max_pool(
    n: int,
    c: Call,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Ref:
    if several(dilation, n) != (1,) * n:
        raise c.fail(f"dilation={dilation}; only 1")
    x = _spatial(c, x, n)
    size, strides, sides = _windows(c, x, n, kernel_size, stride, padding, ceil_mode)
    return c.node(f"max_pool{n}d", x, size=size, strides=strides, padding=sides)


def avg_pool(
    n: int,
    c: Call,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Ref:
    if divisor_override:
        raise c.fail(f"divisor_override={divisor_override}")
    x = _spatial(c, x, n)
    size, strides, sides = _windows(c, x, n, kernel_size, stride, padding, ceil_mode)
    own = both_sides(padding, n)
    if own != none(n) and count_include_pad:
        x = Ref(c.builder.add(f"{c.name}.pad", "pad", (x.name,), padding=own, value=0.0), x.value, x.order)
        sides = tuple((a - p, b - q) for (a, b), (p, q) in zip(sides, own, strict=True))
    return c.node(f"avg_pool{n}d", x, size=size, strides=strides, padding=sides)


def adaptive(kind: str, n: int, c: Call, x: Any, output_size: Any, return_indices: bool = False) -> Ref:
    x = _spatial(c, x, n)
    sizes, outs = tuple(x.value.shape[2:]), tuple(c.result.shape[2:])
    if set(outs) == {1}:
        return c.node(f"global_{kind}_pool", x, keepdims=True)
    if any(length % out for length, out in zip(sizes, outs, strict=True)):
        return c.node(f"adaptive_{kind}_pool{n}d", x, size=outs)
    size = tuple(length // out for length, out in zip(sizes, outs, strict=True))
    return c.node(f"{kind}_pool{n}d", x, size=size, strides=size, padding=none(n))


def pad(c: Call, x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Ref:
    pairs = {c.check(x).value.ndim - 1 - i: tuple(int(p) for p in pad[2 * i : 2 * i + 2]) for i in range(len(pad) // 2)}
    if mode != "constant":
        for axis, (before, after) in pairs.items():
            x = _repeated(c, x, axis, before, after, mode)
        return Ref(x.name, c.result, x.order)
    padding = [pairs.get(axis, (0, 0)) for axis in x.order]
    if padding.pop(0) != (0, 0):
        raise c.fail("adds samples")
    if padding[-1] == (0, 0) and len(padding) > 1:
        padding.pop()
    return c.node("pad", x, padding=tuple(padding), value=float(value or 0))


def _repeated(c: Call, x: Ref, axis: int, before: int, after: int, mode: str) -> Ref:
    """Padding by the image itself: entries that are taken again."""
    if (before, after) == (0, 0):
        return x
    size = x.value.shape[axis]
    kind = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode)
    if kind is None or min(before, after) < 0:
        raise c.fail(f"pads by {(before, after)}, mode {mode!r}")
    indices = np.pad(np.arange(size), (before, after), mode=kind)  # type: ignore[call-overload]
    return shapes.take(c, x, axis, torch.from_numpy(indices))


def pad_module(mode: str, c: Call, m: Any, x: Any) -> Ref:
    return pad(c, x, m.padding, mode, getattr(m, "value", 0))


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
    rank = c.check(x, 3, 4, 5).value.ndim
    x = c.image(x, rank)
    before, after = tuple(x.value.shape[2:]), tuple(c.result.shape[2:])
    if set(before) == {1} and not antialias:
        mode, align_corners = "nearest", None  # one pixel is repeated, whatever the method
    smooth = mode in ("linear", "bilinear", "trilinear")
    if antialias or not (smooth or mode in ("nearest", "nearest-exact")):
        raise c.fail(f"mode={mode!r}, antialias={antialias}; only nearest, nearest-exact and linear")
    whole = not any(b % a for a, b in zip(before, after, strict=True))
    given = None if scale_factor is None or recompute_scale_factor else scale_factor
    exact = given is None or all(s == b / a for s, a, b in zip(_factors(given, rank - 2), before, after, strict=True))
    if rank == 4 and whole and exact and not align_corners:
        factors = tuple(b // a for a, b in zip(before, after, strict=True))
        return c.node("upsample2d", x, factors=factors, method="bilinear" if smooth else "nearest")
    scales = _factors(given, rank - 2) if given is not None else (None,) * (rank - 2)
    places = [
        resized(a, b, "linear" if smooth else mode, bool(align_corners), scale)
        for a, b, scale in zip(before, after, scales, strict=True)
    ]
    return c.node("resize", x, size=after, method="linear" if smooth else "nearest", places=places)


def _factors(value: Any, n: int) -> tuple[float, ...]:
    every = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(float(v) for v in (every * n if len(every) == 1 else every))


def resized(length: int, out: int, mode: str, corners: bool, scale: float | None = None) -> list[float]:
    """Where each output pixel reads an axis of this length, as `torch.nn.functional.interpolate` has it."""
    step = 1 / scale if scale else length / out
    i = np.arange(out)
    if corners:
        places = i * ((length - 1) / (out - 1) if out > 1 else 0.0)
    elif mode == "nearest":
        places = np.floor(i * step)
    elif mode == "nearest-exact":
        places = np.floor((i + 0.5) * step)
    else:
        places = (i + 0.5) * step - 0.5
    return [float(p) for p in np.clip(places, 0, length - 1)]


def pixel_shuffle(c: Call, x: Any, upscale_factor: int) -> Ref:
    x, r = c.image(x), upscale_factor
    n, channels, high, wide = x.value.shape
    out = channels // r**2
    split = c.step(
        "reshape",
        x,
        x.value.permute(x.order).reshape(n, high, wide, out, r, r),
        shape=(high, wide, out, r, r),
        order=layout.plain(6),
    )
    turned = c.step("transpose", split, split.value.permute(0, 1, 4, 2, 5, 3), axes=(0, 1, 4, 2, 5, 3))
    return c.node("reshape", turned, shape=(high * r, wide * r, out), order=layout.channels_first(4))


def upsampling(c: Call, m: Any, x: Any) -> Ref:
    return interpolate(c, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor)


_KINDS = ((nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d), (nn.Conv3d, nn.ConvTranspose3d))
CONVOLUTIONS: dict[type[nn.Module], Callable[..., Ref]] = {kind: conv_module for kind, _ in _KINDS} | {
    kind: conv_transpose_module for _, kind in _KINDS
}
POOLS = {
    **{getattr(nn, f"MaxPool{n}d"): partial(max_pool, n) for n in (1, 2, 3)},
    **{getattr(nn, f"AvgPool{n}d"): partial(avg_pool, n) for n in (1, 2, 3)},
}
