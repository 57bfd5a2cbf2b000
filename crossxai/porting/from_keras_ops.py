"""What keras.ops, and the layers that are no more than one of them, are in a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from crossxai.model import Array
from crossxai.porting.building import Operation
from crossxai.porting.graph import PLAIN_ACTIVATIONS
from crossxai.porting.keras_layers import gelu_erf, gelu_tanh


@dataclass(frozen=True, eq=False)
class Ref:
    """A value of the network and its shape, (None, *axes)."""

    name: str
    shape: tuple[Any, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass
class Call(Operation):
    """An operation of Keras's, and the shape of its result; several of one with several results."""

    shape: tuple[Any, ...]

    def check(self, ref: Any, *ranks: int) -> Ref:
        """The activation, which must have one of these numbers of axes, any if none is given."""
        if not isinstance(ref, Ref) or (ranks and ref.rank not in ranks):
            shape = ref.shape if isinstance(ref, Ref) else type(ref).__name__
            wanted = " or ".join(map(str, ranks)) or "more"
            raise self.fail(f"takes an activation with {wanted} axes, here it gets {shape}")
        return ref

    def node(
        self,
        op: str,
        *refs: Ref,
        name: str = "",
        weights: dict[str, Array] | None = None,
        shape: tuple[Any, ...] | None = None,
        **settings: Any,
    ) -> Ref:
        """A node that gives this operation's result, or one on the way, of this shape."""
        names = [self.check(ref).name for ref in refs]
        return Ref(self.builder.add(name or self.name, op, names, weights, **settings), shape or self.shape)

    def standardised(self, ref: Ref, mean: Any, sd: Any) -> Ref:
        return Ref(self.builder.standardise(self.name, self.check(ref).name, mean, sd), self.shape)

    def constant(self, value: Any, beside: Ref) -> Ref:
        """Values that no input changes, beside an activation of as many axes."""
        values = array(value)
        if values.ndim > beside.rank:
            raise self.fail(f"with a constant of shape {values.shape} beside an activation of {beside.rank} axes")
        values = values.reshape((1,) * (beside.rank - values.ndim) + values.shape)
        if len(values) != 1:
            raise self.fail("with a constant that differs from sample to sample")
        name = f"{self.name}.constant"
        dtype = self.builder.dtype
        weights, shape = {"value": values[0].astype(dtype)}, (None, *values.shape[1:])
        return self.node("constant", beside, name=name, weights=weights, shape=shape, trains=trains(value))

    def activated(self, linear: Ref, function: Any) -> Ref:
        """The activation that a layer applies to what it computed, as a node of its own."""
        op, settings = _activation(self, function)
        if op is None:
            return linear
        if op == "gelu" and function not in (gelu_tanh, gelu_erf):
            return gelu(self, linear, settings["approximate"])
        return self.node(op, linear, name=f"{self.name}.{op}", **settings)


def trains(value: Any) -> bool:
    """Whether it is a weight that is not frozen."""
    return isinstance(value, keras.Variable) and bool(value.trainable)


def array(variable: Any) -> Array:
    values = np.array(keras.ops.convert_to_numpy(variable))
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _activation(c: Call, function: Any) -> tuple[str | None, dict[str, Any]]:
    if function in (gelu_tanh, gelu_erf):
        return "gelu", {"approximate": function is gelu_tanh}
    name = getattr(function, "__name__", type(function).__name__)
    name = {"swish": "silu", "hard_swish": "hard_silu", "exponential": "exp"}.get(name, name)
    if function is None or function is keras.activations.linear:
        return None, {}
    settings: dict[str, dict[str, Any]] = {
        **{name: {} for name in (*PLAIN_ACTIVATIONS, "exp")},
        "gelu": {"approximate": False}, "elu": {"alpha": 1.0}, "leaky_relu": {"slope": constant(c, 0.2)},
        "softmax": {"axis": -1}, "log_softmax": {"axis": -1},
    }  # fmt: skip
    if name not in settings or not getattr(function, "__module__", "").startswith(("keras.", "tensorflow.")):
        raise c.fail(f"its activation {name!r} has none")
    return name, settings[name]


def constant(c: Call, value: float) -> float:
    """A number that TensorFlow keeps in float32: of a network in float64 as it is there, else as it was written."""
    return float(np.float32(value)) if c.builder.dtype == np.float64 else float(value)


def gelu(c: Call, x: Ref, approximate: bool) -> Ref:
    """Keras's own: TensorFlow keeps the root of a half in float32, so that in float64 it is the GELU of a stretched input."""
    stretch = float(np.float32(0.5**0.5)) * 2**0.5
    if approximate or c.builder.dtype != np.float64:
        return c.node("gelu", x, approximate=approximate)
    wide = c.builder.add(f"{c.name}.stretched", "affine", (c.check(x).name,), factor=stretch, term=0.0)
    node = c.node("gelu", Ref(wide, x.shape), name=f"{c.name}.gelu", shape=x.shape, approximate=False)
    return c.node("affine", node, factor=1 / stretch, term=0.0)


def axis_of(c: Call, axis: Any, rank: int, samples: str = "along the samples") -> int:
    """The axis, counted from the first; the samples' own is none."""
    place = int(axis) % rank
    if place == 0:
        raise c.fail(samples)
    return place


def softmax(op: str, c: Call, operation: Any, x: Ref, mask: Any = None) -> Ref:
    if not isinstance(operation.axis, int):
        if len(operation.axis) != 1:
            raise c.fail(f"axis={operation.axis}; only one")
        return c.node(op, x, axis=axis_of(c, operation.axis[0], x.rank))
    place = axis_of(c, operation.axis, c.check(x).rank)
    return c.node(op, x, axis=-1 if place == x.rank - 1 else place)


def over(op: str, c: Call, operation: Any, x: Ref) -> Ref:
    """mean, sum and max over some axes; the first two of an image over space are pooling."""
    given = range(c.check(x).rank) if operation.axis is None else operation.axis
    axes = tuple(
        sorted(axis_of(c, a, x.rank, "over the samples") for a in (given if hasattr(given, "__iter__") else [given]))
    )
    kind = {"mean": "avg", "max": "max"}.get(op)
    if kind and x.rank > 3 and axes == tuple(range(1, x.rank - 1)):
        return c.node(f"global_{kind}_pool", x, keepdims=bool(operation.keepdims))
    return c.node(op, x, axes=axes, keepdims=bool(operation.keepdims))


def concatenate(c: Call, operation: Any, values: Any) -> Ref:
    known = next(v for v in values if isinstance(v, Ref))
    refs = [c.check(v, len(c.shape)) if isinstance(v, Ref) else c.constant(v, known) for v in values]
    if len(refs) == 1:
        return Ref(refs[0].name, c.shape)
    return c.node("concatenate", *refs, axis=axis_of(c, operation.axis, len(c.shape)))


def merge(op: str, c: Call, _layer: Any, values: Any) -> Ref:
    """A layer of Keras's that merges, which gives a table the axes of an image."""
    refs = []
    for value in values:
        low = c.check(value).rank == 2 and len(c.shape) == 4
        shape = (None, 1, 1, value.shape[-1])
        refs.append(
            c.node("expand", value, name=f"{c.name}.expand", shape=shape) if low else c.check(value, len(c.shape))
        )
    total = refs[0]
    for i, ref in enumerate(refs[1:], start=2):
        total = c.node(op, total, ref, name=c.name if i == len(refs) else f"{c.name}.part")
    return total


def average(c: Call, layer: Any, values: Any) -> Ref:
    n = len(values)
    name, c.name = c.name, f"{c.name}.sum"
    total = merge("add", c, layer, values)
    c.name = name
    return c.node("affine", total, factor=1 / n, term=0.0)


def arithmetic(op: str, c: Call, _operation: Any, left: Any, right: Any) -> Ref:
    sides = [left, right]
    if isinstance(left, Ref) and isinstance(right, Ref):
        return c.node(op, c.check(left, len(c.shape)), c.check(right, len(c.shape)))
    place = 0 if isinstance(left, Ref) else 1
    x, value = sides[place], sides[1 - place]
    number = float(value) if isinstance(value, int | float) else None
    values = array(value).astype(c.builder.dtype)
    channel = values.ndim <= x.rank and all(size == 1 for size in values.shape[:-1])
    if channel and tuple(c.shape) == tuple(x.shape) and op in ("add", "subtract", "multiply", "divide"):
        flat = (values.reshape(-1) if values.size > 1 else values.reshape(())) if number is None else number
        ordered: tuple[Any, Any] = (x.name, flat) if place == 0 else (flat, x.name)
        name = c.builder.arithmetic(c.name, op, *ordered, trains=trains(value))
        if name is not None:
            return Ref(name, c.shape)
    refs = [x, c.constant(value if number is None else values, x)]
    return c.node(op, *(refs if place == 0 else refs[::-1]))


def negative(c: Call, operation: Any, x: Ref) -> Ref:
    return arithmetic("multiply", c, operation, x, -1.0)


def power(c: Call, operation: Any, x: Any, exponent: Any) -> Ref:
    if isinstance(exponent, Ref) or not isinstance(x, Ref) or np.size(exponent) != 1:
        raise c.fail("with an exponent that is a tensor")
    value = float(np.asarray(exponent).reshape(()))
    return c.node("square", x) if value == 2 else c.node("power", x, exponent=value)


def clip(c: Call, operation: Any, x: Ref) -> Ref:
    return c.node("clip", x, low=float(operation.x_min), high=float(operation.x_max))


def identity(c: Call, _operation: Any, x: Ref, **_named: Any) -> Ref:
    return Ref(c.check(x).name, c.shape)


def plain(op: str, c: Call, operation: Any, x: Ref) -> Ref:
    if op == "leaky_relu":
        return c.node(op, x, slope=constant(c, operation.negative_slope))
    if op == "elu":
        return c.node(op, x, alpha=float(operation.alpha))
    return gelu(c, x, bool(operation.approximate)) if op == "gelu" else c.node(op, x)
