"""What activations, arithmetic and reductions are in a graph; functions bear the signatures of torch's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.model import Array
from crossxai.porting import layout
from crossxai.porting.building import Operation
from crossxai.porting.layout import Order


@dataclass(frozen=True, eq=False)
class Ref:
    """A value of the network: the node that computes it, torch's tensor, and the tensor's axis that each axis of the node is."""

    name: str
    value: Tensor
    order: Order = ()

    def __post_init__(self) -> None:
        if not self.order:
            object.__setattr__(self, "order", layout.plain(self.value.ndim))

    def axis(self, axis: int) -> int:
        """The node's axis of an axis of the tensor's; 0 is that of the samples."""
        return self.order.index(axis % self.value.ndim)


@dataclass(frozen=True, eq=False)
class Joined(Ref):
    """A value whose first axis is two of the node's, not the samples' first: what attention, taken apart by torch.export,
    multiplies by a matrix. Only that is done to it until it has both axes again. inner: the tensor with both."""

    inner: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class Call(Operation):
    """An operation of torch's. view: its result is its input's memory, seen in another shape."""

    result: Any
    view: bool = False

    def check(self, ref: Any, *ranks: int) -> Ref:
        """The activation, which must have one of these numbers of axes, any if none is given."""
        if not isinstance(ref, Ref) or (ranks and ref.value.ndim not in ranks):
            shape = tuple(ref.value.shape) if isinstance(ref, Ref) else type(ref).__name__
            wanted = " or ".join(map(str, ranks)) or "more"
            raise self.fail(f"takes an activation with {wanted} axes, here it gets {shape}")
        if isinstance(ref, Joined):
            raise self.fail("its samples are not along an axis of their own")
        return ref

    def along(self, ref: Any, axis: int) -> int:
        """The node's axis of an axis of the tensor's along which the operation may work, which is not that of the samples."""
        place = self.check(ref).axis(axis)
        if place == 0:
            raise self.fail("over the samples")
        return place

    def last(self, ref: Any, axes: int = 1) -> Ref:
        """The activation with its samples first and torch's own order of the other axes, of which the last are not that of the
        samples."""
        samples = self.check(ref).order[0]
        if samples >= ref.value.ndim - axes:
            raise self.fail("over the samples")
        return self.laid(ref, (samples, *(axis for axis in range(ref.value.ndim) if axis != samples)))

    def laid(self, ref: Ref, order: Order) -> Ref:
        """The activation with the axes of its node in this order."""
        if ref.order == order:
            return ref
        axes = tuple(ref.order.index(axis) for axis in order)
        if axes[0] != 0:
            raise self.fail("its samples are not along the first axis")
        return Ref(self.builder.add(f"{self.name}.transpose", "transpose", (ref.name,), axes=axes), ref.value, order)

    def image(self, ref: Any, *ranks: int) -> Ref:
        """The activation, of so many axes (4 unless told), as torch's convolutions take it."""
        rank = self.check(ref, *ranks or (4,)).value.ndim
        return self.laid(ref, layout.channels_first(rank))

    def plain(self, ref: Any, *ranks: int) -> Ref:
        """The activation with torch's own order of axes."""
        return self.laid(self.check(ref, *ranks), layout.plain(ref.value.ndim))

    def node(
        self, op: str, *refs: Ref, weights: dict[str, Array] | None = None, order: Order | None = None, **settings: Any
    ) -> Ref:
        """A node that gives this operation's result, whose axes lie as those of the first input unless told."""
        first = self.check(refs[0])
        if op != "embedding" and not all(r.value.is_floating_point() for r in refs):
            raise self.fail("computes with whole numbers: only an embedding takes them")
        kept = first.order if first.value.ndim == self.result.ndim else layout.plain(self.result.ndim)
        name = self.builder.add(self.name, op, [self.check(r).name for r in refs], weights, **settings)
        return Ref(name, self.result, order or kept)

    def step(self, op: str, ref: Ref, value: Tensor, order: Order | None = None, **settings: Any) -> Ref:
        """A node on the way, with what it gives."""
        name = self.builder.add(f"{self.name}.{op}", op, (ref.name,), **settings)
        return Ref(name, value, order or ref.order)

    def alias(self, ref: Ref, order: Order | None = None) -> Ref:
        self.view = True
        return Ref(ref.name, self.result, order or ref.order)

    def constant(self, value: Any, beside: Ref) -> Ref:
        """A tensor that no input changes, broadcast as torch does, beside an activation of as many axes."""
        tensor = torch.as_tensor(value, dtype=beside.value.dtype).detach()
        rank = beside.value.ndim
        if tensor.ndim > rank:
            raise self.fail(f"with a constant of shape {tuple(tensor.shape)} beside an activation of {rank} axes")
        tensor = tensor.reshape((1,) * (rank - tensor.ndim) + tuple(tensor.shape)).permute(beside.order)
        if not bool((tensor == tensor[:1]).all()):
            raise self.fail("with a constant that differs from sample to sample")
        weights = {"value": array(tensor[0])}
        name = self.builder.add(f"{self.name}.constant", "constant", (beside.name,), weights, trains=trains(value))
        shape = [1] * rank
        for place, axis in enumerate(beside.order):
            shape[axis] = beside.value.shape[axis] if place == 0 else tensor.shape[place]
        return Ref(name, beside.value.new_empty(shape), beside.order)


def trains(value: Any) -> bool:
    """Whether it is a parameter, or another view of one."""
    return isinstance(value, nn.Parameter) or isinstance(getattr(value, "_base", None), nn.Parameter)


def array(tensor: Tensor) -> Array:
    """A NumPy copy; half precision becomes float32."""
    return tensor.detach().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32).cpu().numpy().copy()


def activation(op: str, c: Call, x: Any, inplace: bool = False) -> Ref:
    return c.node(op, x)


def unary(op: str, c: Call, x: Any) -> Ref:
    return c.node(op, x)


def leaky_relu(c: Call, x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Ref:
    return c.node("leaky_relu", x, slope=float(negative_slope))


def prelu(c: Call, x: Any, weight: Any) -> Ref:
    alpha = np.ones((1,) * (c.check(x).value.ndim - 1), array(weight).dtype)
    x = c.image(x, x.value.ndim) if len(weight) > 1 else x  # the channels are torch's second axis, and here the last
    return c.node("prelu", x, weights={"alpha": alpha * array(weight)})


def elu(c: Call, x: Any, alpha: float = 1.0, inplace: bool = False) -> Ref:
    return c.node("elu", x, alpha=float(alpha))


def gelu(c: Call, x: Any, approximate: str = "none") -> Ref:
    return c.node("gelu", x, approximate=approximate == "tanh")


def clip(c: Call, x: Any, min: Any = None, max: Any = None, inplace: bool = False) -> Ref:
    if isinstance(min, Ref | Tensor) or isinstance(max, Ref | Tensor):
        raise c.fail("with bounds that are tensors")
    low, high = (None if bound is None else float(bound) for bound in (min, max))
    return c.node("clip", x, low=low, high=high)


def hardtanh(c: Call, x: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Ref:
    return c.node("relu6", x) if (min_val, max_val) == (0, 6) else clip(c, x, min_val, max_val)


def softplus(c: Call, x: Any, beta: float = 1, threshold: float = 20) -> Ref:
    if beta != 1:
        raise c.fail(f"beta={beta}; only 1")
    return c.node("softplus", x)


def softmax(op: str, c: Call, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Ref:
    if dim is None:
        raise c.fail("over an axis that is not given: write dim=")
    if dtype not in (None, c.check(x).value.dtype):
        raise c.fail("changes the dtype")
    place = c.along(x, dim)
    return c.node(op, x, axis=-1 if place == x.value.ndim - 1 else place)


def power(c: Call, x: Any, exponent: Any) -> Ref:
    if isinstance(exponent, Ref | Tensor) or not isinstance(x, Ref):
        raise c.fail("with an exponent that is a tensor")
    return c.node("square", x) if exponent == 2 else c.node("power", x, exponent=float(exponent))


def over(op: str, c: Call, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Ref:
    """mean, sum and amax over some axes; the first two of an image over space are pooling."""
    rank = c.check(x).value.ndim
    dims = dim if isinstance(dim, tuple | list) else (dim,) if dim is not None else range(rank)
    axes = tuple(sorted(c.along(x, int(d)) for d in dims))
    kind = {"mean": "avg", "max": "max"}.get(op)
    if rank > 3 and axes == tuple(range(1, rank - 1)) and x.order == layout.channels_first(rank) and kind:
        return c.node(f"global_{kind}_pool", x, keepdims=bool(keepdim))
    order = x.order if keepdim else layout.without(x.order, axes)
    return c.node(op, x, order=order, axes=axes, keepdims=bool(keepdim))


def unit_norm(c: Call, x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Ref:
    if p != 2 or eps != 1e-12:
        raise c.fail(f"p={p}, eps={eps}; only 2 and 1e-12")
    return c.node("unit_norm", x, axis=c.along(x, dim))


def arithmetic(op: str, c: Call, left: Any, right: Any, alpha: Any = 1, rounding_mode: Any = None) -> Ref:
    if rounding_mode is not None:
        raise c.fail(f"rounding_mode={rounding_mode}")
    if alpha != 1:
        if isinstance(right, Ref):
            raise c.fail(f"alpha={alpha} of an activation; only 1")
        right = alpha * right
    sides = [left, right]
    if isinstance(left, Ref) and isinstance(right, Ref):
        return c.node(op, *beside(c, [left, right]))
    place = 0 if isinstance(left, Ref) else 1
    x, value = sides[place], sides[1 - place]
    if np.isscalar(value) or isinstance(value, Tensor):
        channels = float(value) if np.isscalar(value) else _per_channel(c, value, x)  # type: ignore[arg-type]
        if channels is not None and op in ("add", "subtract", "multiply", "divide"):
            ordered: tuple[Any, Any] = (x.name, channels) if place == 0 else (channels, x.name)
            name = c.builder.arithmetic(c.name, op, *ordered, trains=trains(value))
            if name is not None:
                return Ref(name, c.result, x.order)
        refs = [x, c.constant(value, x)]
        return c.node(op, *(refs if place == 0 else refs[::-1]), order=x.order)
    raise c.fail(f"takes an activation and a {type(value).__name__}")


def addcmul(c: Call, x: Any, one: Any, two: Any, value: Any = 1) -> Ref:
    """x + value * one * two."""
    if not (isinstance(one, Ref) or isinstance(two, Ref)):
        return arithmetic("add", c, x, value * one * two)
    values = [v.value if isinstance(v, Ref) else v for v in (one, two)]
    step = Call(c.builder, f"{c.name}.product", c.layer, c.kind, values[0] * values[1])
    product = arithmetic("multiply", step, one, two)
    return arithmetic("add", c, product if value == 1 else arithmetic("multiply", step, product, value), x)


def beside(c: Call, refs: list[Ref]) -> list[Ref]:
    """Activations whose nodes' axes lie as those of the largest one."""
    rank = max(r.value.ndim for r in refs)
    largest = max((r for r in refs if r.value.ndim == rank), key=lambda r: r.value.numel())
    return [c.laid(c.check(r, rank), largest.order) for r in refs]


def concatenate(c: Call, tensors: Any, dim: int = 0, **named: Any) -> Ref:
    dim = named.get("axis", dim)
    known = [t for t in tensors if isinstance(t, Ref)]
    refs = beside(c, known)
    if len(tensors) == 1:
        return Ref(refs[0].name, c.result, refs[0].order)  # as the first layer of every dense block does
    lying = iter(refs)
    every = [next(lying) if isinstance(t, Ref) else c.constant(t, refs[0]) for t in tensors]
    axis = refs[0].axis(dim)
    if axis == 0:
        raise c.fail("puts samples beside samples")
    return c.node("concatenate", *every, axis=axis)


def reverse(op: str, c: Call, left: Any, right: Any) -> Ref:
    return arithmetic(op, c, right, left)


def negative(c: Call, x: Any) -> Ref:
    return arithmetic("multiply", c, x, -1.0)


def masked_fill(c: Call, x: Any, mask: Any, value: Any) -> Ref:
    """Of a mask that no input changes: x times what is kept plus what is filled in."""
    if not isinstance(x, Ref) or isinstance(mask, Ref) or isinstance(value, Ref):
        raise c.fail("with a mask that depends on the inputs")
    filled = torch.zeros_like(mask, dtype=x.value.dtype).masked_fill(mask, value)
    if np.isfinite(float(value)):
        kept = c.constant(~mask, x)
        x = Ref(c.builder.add(f"{c.name}.kept", "multiply", (x.name, kept.name)), x.value, x.order)
    return c.node("add", x, c.constant(filled, x), order=x.order)


def _per_channel(c: Call, value: Any, x: Ref) -> Array | None:
    """A number, or one number per entry of the node's last axis, as () or (c,); None if it is more."""
    tensor = torch.as_tensor(value, dtype=x.value.dtype)
    rank = x.value.ndim
    if tensor.ndim > rank or c.result.shape != x.value.shape:
        return None
    full = tensor.reshape((1,) * (rank - tensor.ndim) + tuple(tensor.shape))
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != x.order[-1]):
        return None
    return array(full.reshape(-1) if full.numel() > 1 else full.reshape(()))


def identity(c: Call, x: Any, *_args: Any, **_named: Any) -> Ref:
    whole = (
        not c.result.dtype.is_floating_point and c.result.dtype != torch.bool
    )  # for an embedding, which alone takes them
    if not isinstance(x, Ref) or not (whole or x.value.dtype == c.result.dtype):
        raise c.fail("changes the dtype")
    return c.alias(x)
