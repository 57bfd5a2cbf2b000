"""What keras.ops, and the layers that are no more than one of them, are in a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from crossxai.model import Array
from crossxai.porting.building import Operation
from crossxai.porting.graph import ACTIVATIONS
from crossxai.porting.to_keras import gelu_erf, gelu_tanh


@dataclass(frozen=True, eq=False)
class Ref:
    """A value of the network and its shape, (None, *axes). open: (n, 1, c) on its way between (n, c) and (n, 1, 1, c);
    the node is (n, c). turned: an image whose channels were moved first, which only flattening may follow; the node is
    the image as it was."""

    name: str
    shape: tuple[Any, ...]
    open: bool = False
    turned: bool = False


@dataclass
class Call(Operation):
    """An operation of Keras's, and the shape of its result."""

    shape: tuple[Any, ...]

    def check(self, ref: Any, *ranks: int) -> Ref:
        """The activation, which must have one of these numbers of axes."""
        if not isinstance(ref, Ref) or ref.open or ref.turned or len(ref.shape) not in ranks:
            shape = ref.shape if isinstance(ref, Ref) else type(ref).__name__
            raise self.fail(f"takes an activation with {' or '.join(map(str, ranks))} axes, here it gets {shape}")
        return ref

    def node(
        self, op: str, *refs: Ref, name: str = "", weights: dict[str, Array] | None = None, **settings: Any
    ) -> Ref:
        names = [self.check(ref, 2, 3, 4).name for ref in refs]
        return Ref(self.builder.add(name or self.name, op, names, weights, **settings), self.shape)

    def standardised(self, ref: Ref, mean: Any, sd: Any) -> Ref:
        return Ref(self.builder.standardise(self.name, self.check(ref, 2, 3, 4).name, mean, sd), self.shape)

    def activated(self, linear: Ref, function: Any) -> Ref:
        """The activation that a layer applies to what it computed, as a node of its own."""
        op, settings = _activation(self, function)
        if op is None:
            return linear
        return self.node(op, linear, name=f"{self.name}.{op}", **settings)


def array(variable: Any) -> Array:
    values = np.array(keras.ops.convert_to_numpy(variable))
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _activation(c: Call, function: Any) -> tuple[str | None, dict[str, Any]]:
    if function in (gelu_tanh, gelu_erf):
        return "gelu", {"approximate": function is gelu_tanh}
    name = getattr(function, "__name__", type(function).__name__)
    name = {"swish": "silu"}.get(name, name)
    if function is None or function is keras.activations.linear:
        return None, {}
    if name not in ACTIVATIONS or not getattr(function, "__module__", "").startswith(("keras.", "tensorflow.")):
        raise c.fail(f"its activation {name!r} has none")
    settings: dict[str, dict[str, Any]] = {
        "gelu": {"approximate": False}, "elu": {"alpha": 1.0}, "leaky_relu": {"slope": float(np.float32(0.2))}
    }  # fmt: skip
    return name, settings.get(name, {})


def softmax(c: Call, operation: Any, x: Ref) -> Ref:
    if operation.axis not in (-1, len(x.shape) - 1):
        raise c.fail(f"axis={operation.axis}; only the last")
    return c.node("softmax", x)


def over_space(kind: str, c: Call, operation: Any, x: Ref) -> Ref:
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    if len(x.shape) != 4 or {a % 4 for a in axes if a is not None} != {1, 2}:
        raise c.fail(f"over axes {operation.axis} of {x.shape}; only over (1, 2) of an image")
    return c.node(f"global_{kind}_pool", x, keepdims=bool(operation.keepdims))


def pad(c: Call, operation: Any, x: Ref, constant_values: Any = None) -> Ref:
    value, sides = float(constant_values or 0), [tuple(side) for side in operation.pad_width]
    inner = len(x.shape) == 4 and len(sides) == 4 and sides[0] == sides[3] == (0, 0)
    if operation.mode != "constant" or value not in (0.0, -np.inf) or not inner:
        raise c.fail(f"pads by {sides}, mode {operation.mode!r}, value {value}; only height and width, by zeros")
    return c.node("pad", x, padding=(sides[1], sides[2]), value=value)


def concatenate(c: Call, operation: Any, values: Any) -> Ref:
    refs = [c.check(v, len(c.shape)) for v in values]
    if len(refs) == 1:
        return Ref(refs[0].name, c.shape)
    return c.node("concatenate", *refs, axis=operation.axis % len(c.shape))


def merge(op: str, c: Call, _layer: Any, values: Any) -> Ref:
    """A layer of Keras's that merges, which gives a table the axes of an image."""
    refs = []
    for value in values:
        low = len(c.check(value, 2, 3, 4).shape) == 2 and len(c.shape) == 4
        refs.append(c.node("expand", value, name=f"{c.name}.expand") if low else c.check(value, len(c.shape)))
    total = refs[0]
    for i, ref in enumerate(refs[1:], start=2):
        total = c.node(op, total, ref, name=c.name if i == len(refs) else f"{c.name}.part")
    return total


def arithmetic(op: str, c: Call, _operation: Any, left: Any, right: Any) -> Ref:
    sides = [c.check(v, len(c.shape)).name if isinstance(v, Ref) else _constant(c, v) for v in (left, right)]
    name = c.builder.arithmetic(c.name, op, sides[0], sides[1])
    if name is None:
        raise c.fail("divides by an activation or multiplies by zero")
    return Ref(name, c.shape)


def _constant(c: Call, value: Any) -> Array:
    """A number, or one number per channel, as () or (c,)."""
    values = array(value)
    if any(size != 1 for size in values.shape[:-1]) or values.ndim > len(c.shape):
        raise c.fail(f"with a constant of shape {values.shape}; only a number, or one per channel")
    return values.reshape(-1) if values.size > 1 else values.reshape(())


def negative(c: Call, operation: Any, x: Ref) -> Ref:
    return arithmetic("multiply", c, operation, x, np.float64(-1))


def permute(c: Call, layer: Any, x: Ref) -> Ref:
    if tuple(layer.dims) != (3, 1, 2) or len(c.check(x, 3, 4).shape) != 4:
        raise c.fail(f"dims={layer.dims}; only (3, 1, 2) of an image before a Flatten")
    return Ref(x.name, c.shape, turned=True)


def reshape(c: Call, _operation: Any, x: Ref, *_rest: Any) -> Ref:
    """Flatten, Reshape, expand_dims, squeeze: all keep the order of the numbers, so the two shapes say everything."""
    before, after = list(x.shape[1:]), list(c.shape[1:])
    before = before[1:] if x.open else before
    if after == before:
        return Ref(x.name, c.shape, turned=x.turned)
    if len(before) == 1 and after in ([1, *before], [1, 1, *before]):
        source = Ref(x.name, (None, *before))
        return Ref(x.name, c.shape, open=True) if len(after) == 2 else c.node("expand", source)
    point = before[:-1] == [1, 1]
    if len(before) > 1 and (after == [int(np.prod(before))] or (point and after == before[1:])):
        order = "channels_first" if x.turned else "channels_last"
        flat = c.node("flatten", Ref(x.name, x.shape), order=order)
        return Ref(flat.name, c.shape, open=len(after) == 2)
    raise c.fail(f"{x.shape} to {c.shape}; only flattening, and (n, c) to and from (n, 1, 1, c)")


def get_item(c: Call, operation: Any, x: Ref, key: Any) -> Ref:
    c.check_whole(key)
    return reshape(c, operation, x)


def identity(c: Call, _operation: Any, x: Ref, **_named: Any) -> Ref:
    return Ref(x.name, c.shape, x.open, x.turned)


def plain(op: str, c: Call, operation: Any, x: Ref) -> Ref:
    if op == "leaky_relu":
        return c.node(op, x, slope=float(np.float32(operation.negative_slope)))  # as TensorFlow keeps it
    if op == "elu":
        return c.node(op, x, alpha=float(operation.alpha))
    return c.node(op, x, approximate=bool(operation.approximate)) if op == "gelu" else c.node(op, x)
