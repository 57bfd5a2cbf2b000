"""What each torch operation is in a graph; the functions here bear the signatures of the torch functions they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.errors import Unsupported
from crossxai.model import Array
from crossxai.porting.building import NONE, Builder, Padding, untranslated

LAST = {0: 0, 1: 3, 2: 1, 3: 2}
"""torch's axis of an image -> the graph's."""


@dataclass(frozen=True, eq=False)
class Ref:
    """A value of the network. open: (n, c, 1) on its way between (n, c) and (n, c, 1, 1); the node is (n, c)."""

    name: str
    value: Tensor
    open: bool = False


@dataclass
class Call:
    """One operation being translated. view: its result is its input's memory, seen in another shape."""

    builder: Builder
    name: str
    layer: str
    kind: str
    result: Tensor
    view: bool = False

    def fail(self, why: str) -> Unsupported:
        return untranslated(self.layer, self.kind, why)

    def check(self, ref: Any, *ranks: int) -> Ref:
        """The activation, which must have one of these numbers of axes."""
        if not isinstance(ref, Ref) or ref.open or ref.value.ndim not in ranks:
            shape = tuple(ref.value.shape) if isinstance(ref, Ref) else type(ref).__name__
            raise self.fail(f"takes an activation with {' or '.join(map(str, ranks))} axes, here it gets {shape}")
        return ref

    def node(self, op: str, *refs: Ref, weights: dict[str, Array] | None = None, **settings: Any) -> Ref:
        for ref in refs:
            self.check(ref, 2, 3, 4)
        return Ref(self.builder.add(self.name, op, [r.name for r in refs], weights, **settings), self.result)

    def alias(self, ref: Ref, open: bool = False) -> Ref:
        self.view = True
        return Ref(ref.name, self.result, open)


def array(tensor: Tensor) -> Array:
    """A NumPy copy; half precision becomes float32."""
    return tensor.detach().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32).cpu().numpy().copy()


def pair(value: Any) -> tuple[int, int]:
    both = tuple(value) if isinstance(value, tuple | list) else (value,)
    return (int(both[0]), int(both[-1]))


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


def activation(op: str, c: Call, x: Any, inplace: bool = False) -> Ref:
    return c.node(op, x)


def leaky_relu(c: Call, x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Ref:
    return c.node("leaky_relu", x, slope=float(negative_slope))


def elu(c: Call, x: Any, alpha: float = 1.0, inplace: bool = False) -> Ref:
    return c.node("elu", x, alpha=float(alpha))


def gelu(c: Call, x: Any, approximate: str = "none") -> Ref:
    return c.node("gelu", x, approximate=approximate == "tanh")


def softplus(c: Call, x: Any, beta: float = 1, threshold: float = 20) -> Ref:
    if beta != 1:
        raise c.fail(f"beta={beta}; only 1")
    return c.node("softplus", x)


def softmax(c: Call, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Ref:
    rank = c.check(x, 2, 3, 4).value.ndim
    if dim is None or dim % rank != (1 if rank == 4 else rank - 1):
        raise c.fail(f"over axis {dim}; only over the channels")
    return c.node("softmax", x)


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
    return c.node(f"{kind}_pool2d", x, size=size, strides=size, **({"padding": NONE} if kind == "max" else {}))


def over_space(kind: str, c: Call, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    dims = {d % 4 for d in (dim if isinstance(dim, tuple | list) else (dim,)) if d is not None}
    if dims != {2, 3}:
        raise c.fail(f"over axes {dim}; only over (2, 3)")
    return c.node(f"global_{kind}_pool", c.check(x, 4), keepdims=bool(keepdim))


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


def concatenate(c: Call, tensors: Any, dim: int = 0, **named: Any) -> Ref:
    dim = named.get("axis", dim)
    rank = c.result.ndim
    refs = [c.check(t, rank) for t in tensors]
    return c.node("concatenate", *refs, axis=LAST[dim % 4] if rank == 4 else dim % rank)


def arithmetic(op: str, c: Call, left: Any, right: Any, alpha: Any = 1, rounding_mode: Any = None) -> Ref:
    if alpha != 1 or rounding_mode is not None:
        raise c.fail(f"alpha={alpha}, rounding_mode={rounding_mode}")
    refs = [c.check(v, c.result.ndim) for v in (left, right) if isinstance(v, Ref)]
    sides = [v.name if isinstance(v, Ref) else _constant(c, v, refs[0]) for v in (left, right)]
    name = c.builder.arithmetic(c.name, op, sides[0], sides[1])
    if name is None:
        raise c.fail("divides by an activation or multiplies by zero")
    return Ref(name, c.result)


def reverse(op: str, c: Call, left: Any, right: Any) -> Ref:
    return arithmetic(op, c, right, left)


def negative(c: Call, x: Any) -> Ref:
    return arithmetic("multiply", c, x, -1.0)


def _constant(c: Call, value: Any, beside: Ref) -> Array:
    """A number, or one number per channel, as () or (c,)."""
    tensor = torch.as_tensor(value, dtype=beside.value.dtype)
    rank = beside.value.ndim
    full = tensor.reshape((1,) * (rank - tensor.ndim) + tuple(tensor.shape)) if tensor.ndim <= rank else tensor
    channel = 1 if rank == 4 else rank - 1
    if any(s != 1 for i, s in enumerate(full.shape) if i != channel) or c.result.shape != beside.value.shape:
        raise c.fail(f"with a constant of shape {tuple(tensor.shape)}; only a number, or one per channel")
    return array(full.reshape(-1) if full.numel() > 1 else full.reshape(()))


def reshape(c: Call, x: Any, *_shape: Any, **_named: Any) -> Ref:
    """view, reshape, flatten, squeeze, unsqueeze: all keep the order of the numbers, so the two shapes say everything."""
    if not isinstance(x, Ref):
        raise c.fail("of a constant by an activation's size")
    before, after = list(x.value.shape), list(c.result.shape)
    before = before[:2] if x.open else before
    c.view = True
    if after == before:
        return c.alias(x)
    if len(before) == 2 and after in ([*before, 1], [*before, 1, 1]):
        return c.alias(x, open=True) if len(after) == 3 else c.node("expand", Ref(x.name, x.value.reshape(before)))
    point = before[2:] == [1, 1]
    if len(before) > 2 and (after == [before[0], int(np.prod(before[1:]))] or (point and after == before[:3])):
        order = "channels_first" if len(before) == 4 and not point else "channels_last"
        return Ref(c.node("flatten", x, order=order).name, c.result, open=len(after) == 3)
    raise c.fail(f"{tuple(x.value.shape)} to {tuple(after)}; only flattening, and (n, c) to and from (n, c, 1, 1)")


def index(c: Call, x: Any, at: Any) -> Ref:
    for part in at if isinstance(at, tuple) else (at,):
        if part is not None and part is not Ellipsis and part != slice(None):
            raise c.fail(f"takes a part of an activation: [{part}]")
    return reshape(c, x)


def identity(c: Call, x: Any, *_args: Any, **_named: Any) -> Ref:
    if not isinstance(x, Ref) or x.value.dtype != c.result.dtype:
        raise c.fail("changes the dtype")
    return c.alias(x, x.open)


def dropout(c: Call, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Ref:
    if training and p:
        raise c.fail("drops at random even in evaluation mode: write training=self.training")
    return c.alias(x)


def stochastic_depth(c: Call, x: Any, p: float, mode: str, training: bool = True) -> Ref:
    return dropout(c, x, p, training)
