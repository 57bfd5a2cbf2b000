"""What convolutions, dense layers, batch norm, pools, padding and upsampling are in a graph, in torch's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from crossxai.model import Array
from crossxai.porting.building import NONE, Padding
from crossxai.porting.from_torch_ops import Call, Ref, array, pair


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
        p = pair(0 if padding == "valid" else padding)
        sides = ((p[0], p[0]), (p[1], p[1]))
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


def _ceil(c: Call, x: Ref, size: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int]) -> Padding:
    """The padding that ceil_mode comes to for this size: enough at the bottom and right for the last window."""
    sides = []
    for n, out, k, s, p in zip(x.value.shape[2:], c.result.shape[2:], size, strides, padding, strict=True):
        sides.append((p, max(p, (out - 1) * s + k - n - p)))
    return sides[0], sides[1]


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
    size, p = pair(kernel_size), pair(padding)
    strides = pair(stride) if stride else size
    sides = _ceil(c, c.check(x, 4), size, strides, p) if ceil_mode else ((p[0], p[0]), (p[1], p[1]))
    return c.node("max_pool2d", x, size=size, strides=strides, padding=sides)


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
    size, p = pair(kernel_size), pair(padding)
    strides = pair(stride) if stride else size
    sides = ((p[0], p[0]), (p[1], p[1]))
    if divisor_override or (ceil_mode and _ceil(c, c.check(x, 4), size, strides, p) != sides):
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
