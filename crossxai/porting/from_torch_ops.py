"""What activations, arithmetic and changes of shape are in a graph; functions bear the signatures of torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossxai.model import Array
from crossxai.porting.building import Operation, Padding

LAST = {0: 0, 1: 3, 2: 1, 3: 2}
"""torch's axis of an image -> the graph's."""


@dataclass(frozen=True, eq=False)
class Ref:
    """A value of the network. open: (n, c, 1) on its way between (n, c) and (n, c, 1, 1); the node is (n, c)."""

    name: str
    value: Tensor
    open: bool = False


@dataclass
class Call(Operation):
    """An operation of torch's. view: its result is its input's memory, seen in another shape."""

    result: Tensor
    view: bool = False

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


def both_sides(padding: Any) -> Padding:
    """As much at either end of both axes, of one number or two."""
    high, wide = pair(padding)
    return (high, high), (wide, wide)


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


def over_space(kind: str, c: Call, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    dims = {d % 4 for d in (dim if isinstance(dim, tuple | list) else (dim,)) if d is not None}
    if dims != {2, 3}:
        raise c.fail(f"over axes {dim}; only over (2, 3)")
    return c.node(f"global_{kind}_pool", c.check(x, 4), keepdims=bool(keepdim))


def concatenate(c: Call, tensors: Any, dim: int = 0, **named: Any) -> Ref:
    dim = named.get("axis", dim)
    rank = c.result.ndim
    refs = [c.check(t, rank) for t in tensors]
    if len(refs) == 1:
        return Ref(refs[0].name, c.result)  # as the first layer of every dense block does
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
    c.check_whole(at)
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
