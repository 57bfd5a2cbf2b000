"""What changes of shape, and products of matrices, are in a graph, as keras.ops and the layers that do no more have them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from crossxai.porting.from_keras_ops import Call, Ref, array, axis_of


def pad(c: Call, operation: Any, x: Ref, constant_values: Any = None) -> Ref:
    sides = [tuple(int(p) for p in side) for side in operation.pad_width]
    sides = sides * c.check(x).rank if len(sides) == 1 else sides
    kind = {"reflect": "reflect", "symmetric": "symmetric"}.get(operation.mode)
    if sides[0] != (0, 0) or (operation.mode != "constant" and kind is None):
        raise c.fail(f"pads by {sides}, mode {operation.mode!r}")
    if kind is not None:
        for axis, side in enumerate(sides):
            if side != (0, 0):
                indices = np.pad(np.arange(x.shape[axis]), side, mode=kind)  # type: ignore[call-overload]
                x = take_at(c, x, axis, indices)
        return Ref(x.name, c.shape)
    padding = sides[1:-1] if sides[-1] == (0, 0) and len(sides) > 2 else sides[1:]
    return c.node("pad", x, padding=tuple(padding), value=float(constant_values or 0))


def permute(c: Call, operation: Any, x: Ref) -> Ref:
    axes = getattr(operation, "dims", None)
    axes = tuple(int(a) for a in (operation.axes or range(c.check(x).rank)[::-1])) if axes is None else (0, *axes)
    return moved(c, x, axes)


def moved(c: Call, x: Ref, axes: tuple[int, ...]) -> Ref:
    if axes[0] != 0:
        raise c.fail("moves the samples from the first axis")
    return Ref(c.check(x).name, c.shape) if axes == tuple(range(x.rank)) else c.node("transpose", x, axes=axes)


def swap(c: Call, operation: Any, x: Ref) -> Ref:
    axes = list(range(c.check(x).rank))
    one, two = operation.axis1 % x.rank, operation.axis2 % x.rank
    axes[one], axes[two] = axes[two], axes[one]
    return moved(c, x, tuple(axes))


def move_axis(c: Call, operation: Any, x: Ref) -> Ref:
    sizes = np.empty(tuple(range(c.check(x).rank)))  # all differ, so that they tell where each axis went
    return moved(c, x, np.moveaxis(sizes, operation.source, operation.destination).shape)


def reshape(c: Call, _operation: Any, x: Ref, *_rest: Any) -> Ref:
    """Flatten, Reshape, expand_dims, squeeze: all keep the order of the numbers, so the two shapes say everything."""
    return shaped(c, c.check(x), c.shape)


def shaped(c: Call, x: Ref, shape: tuple[Any, ...]) -> Ref:
    before, after = list(x.shape[1:]), list(shape[1:])
    if shape[0] is not None or None in after:
        raise c.fail(f"{x.shape} to {shape}: the samples are not first, or a size is left open")
    if after == before:
        return Ref(x.name, shape)
    if len(before) == 1 and after == [1, 1, *before]:
        return c.node("expand", x, shape=shape)
    if len(after) == 1 and np.prod(before) == after[0]:
        return c.node("flatten", x, order="channels_last", shape=shape)
    return Ref(c.builder.add(c.name, "reshape", (x.name,), shape=tuple(shape[1:])), shape)


def get_item(c: Call, operation: Any, x: Any, key: Any) -> Any:
    if isinstance(x, list | tuple):
        return x[key]
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        place = next(i for i, k in enumerate(keys) if k is Ellipsis)
        left = c.check(x).rank - sum(k is not None and k is not Ellipsis for k in keys)
        keys[place : place + 1] = [slice(None)] * left
    axis = 0
    for part in keys:
        if part is None:
            continue
        if isinstance(part, int | np.integer):
            start = int(part) % x.shape[axis] if axis else int(part)
            part = slice(start, start + 1)
        if not isinstance(part, slice):
            raise c.fail(f"takes entries by [{part}]")
        x = cut(c, c.check(x), axis, part)
        axis += 1
    return shaped(c, x, c.shape)


def cut(c: Call, x: Ref, axis: int, key: slice) -> Ref:
    """x[..., key, ...] along an axis."""
    if axis == 0:
        if key != slice(None):
            raise c.fail("takes a part of the samples")
        return x
    start, stop, step = key.indices(x.shape[axis])
    if step < 0:
        return take_at(c, x, axis, np.arange(x.shape[axis])[key])
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    shape = (*x.shape[:axis], len(range(start, stop, step)), *x.shape[axis + 1 :])
    return c.node("slice", x, name=f"{c.name}.slice", shape=shape, axis=axis, start=start, stop=stop, step=step)


def pieces(c: Call, operation: Any, x: Ref) -> list[Ref]:
    axis, start, refs = axis_of(c, operation.axis, c.check(x).rank), 0, []
    for shape in c.shape:
        stop = start + shape[axis]
        refs.append(cut(c, x, axis, slice(start, stop)))
        start = stop
    return refs


def unstack(c: Call, operation: Any, x: Ref) -> list[Ref]:
    axis = axis_of(c, operation.axis, c.check(x).rank)
    return [shaped(c, cut(c, x, axis, slice(i, i + 1)), shape) for i, shape in enumerate(c.shape)]


def take_at(c: Call, x: Ref, axis: int, indices: Any) -> Ref:
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return c.node("take", x, name=f"{c.name}.take", shape=shape, axis=axis, indices=[int(i) for i in indices])


def take(c: Call, operation: Any, x: Any, indices: Any) -> Ref:
    if isinstance(indices, Ref):
        if isinstance(x, Ref) or operation.axis not in (0, None):
            raise c.fail("entries by numbers that depend on the inputs, of what is no table")
        return c.node("embedding", indices, weights={"table": array(x)})
    places = np.asarray(keras.ops.convert_to_numpy(indices))
    if operation.axis is None or places.ndim > 1:
        raise c.fail("entries of all axes, or by numbers in more than one axis")
    axis = axis_of(c, operation.axis, c.check(x).rank)
    return shaped(c, take_at(c, x, axis, places.reshape(-1) % x.shape[axis]), c.shape)


def flip(c: Call, operation: Any, x: Ref) -> Ref:
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    for axis in axes:
        place = axis_of(c, axis, c.check(x).rank)
        x = take_at(c, x, place, np.arange(x.shape[place])[::-1])
    return x


def roll(c: Call, operation: Any, x: Ref) -> Ref:
    pairs = zip(*(v if isinstance(v, list | tuple) else (v,) for v in (operation.shift, operation.axis)), strict=True)
    for shift, axis in pairs:
        if axis is None:
            raise c.fail("over all numbers")
        x = c.node("roll", x, axis=axis_of(c, axis, c.check(x).rank), shift=int(shift))
    return x


def broadcast(c: Call, operation: Any, x: Ref) -> Ref:
    """tile, repeat along an axis and broadcast_to of axes of one, told from the sizes before and after."""
    if c.check(x).rank != len(c.shape) or None in c.shape[1:]:
        raise c.fail(f"{x.shape} to {c.shape}")
    return c.node("tile", x, times=tuple(b // a for a, b in zip(x.shape[1:], c.shape[1:], strict=True)))


def repeat_vector(c: Call, layer: Any, x: Ref) -> Ref:
    wide = c.node("expand", x, name=f"{c.name}.expand", shape=(None, 1, 1, x.shape[-1]))
    one = Ref(
        c.builder.add(f"{c.name}.reshape", "reshape", (wide.name,), shape=(1, x.shape[-1])), (None, 1, x.shape[-1])
    )
    return c.node("tile", one, times=(layer.n, 1))


def stack(c: Call, operation: Any, values: Any) -> Ref:
    axis = axis_of(c, operation.axis, len(c.shape))
    one = (*c.shape[:axis], 1, *c.shape[axis + 1 :])
    return c.node("concatenate", *(shaped(c, c.check(v), one) for v in values), axis=axis)


def matmul(c: Call, _operation: Any, left: Any, right: Any) -> Ref:
    """left @ right: a dense layer where one is a matrix that no input changes, else a sum over products."""
    if isinstance(left, Ref) and not isinstance(right, Ref) and np.ndim(right) == 2:
        return c.node("dense", left, weights={"kernel": array(right)})
    names, terms = "abcdefghijkl"[: len(c.shape) - 2], []
    for value, last in ((left, "yz"), (right, "zx")):
        shape = tuple(value.shape)
        if len(shape) < 2 or shape[:-2] != tuple(c.shape)[len(c.shape) - len(shape) : -2]:
            raise c.fail(f"with a factor of shape {shape}: groups are broadcast")
        terms.append((names + last)[-len(shape) :])
    return summed(c, terms, f"{names}yx", (left, right))


def einsum(c: Call, operation: Any, *values: Any) -> Ref:
    equation = operation.subscripts.replace(" ", "")
    terms, _, out = equation.partition("->")
    parts = terms.split(",")
    if len(values) != 2 or not out or "." in equation:
        raise c.fail(f"{equation!r}; only two terms, with what they give and no dots")
    return summed(c, parts, out, values)


def summed(c: Call, parts: list[str], out: str, values: Any) -> Ref:
    """einsum of two terms, of which one may be constant."""
    known = next(i for i, v in enumerate(values) if isinstance(v, Ref))
    first, refs, parts = parts[known][0], list(values), list(parts)
    for i, value in enumerate(values):
        if not isinstance(value, Ref):
            if first in parts[i]:
                raise c.fail("with a constant that differs from sample to sample")
            parts[i] = first + parts[i]
            wide = Ref(values[known].name, (None,) * (np.ndim(value) + 1))
            refs[i] = c.constant(array(value)[None], wide)
    if any(part[0] != first for part in (*parts, out)):
        raise c.fail(f"{','.join(parts)}->{out} has no axis of samples first in all terms")
    return c.node("einsum", *refs, equation=f"{','.join(parts)}->{out}")


def dot(c: Call, layer: Any, values: Any) -> Ref:
    axes = layer.axes if isinstance(layer.axes, list | tuple) else (layer.axes, layer.axes)
    left, right = (c.check(v) for v in values)
    if layer.normalize or {left.rank, right.rank} - {2, 3}:
        raise c.fail("normalize=True, or of activations with more than 3 axes")
    one, two = "a" + "bcd"[: left.rank - 1], "a" + "xyz"[: right.rank - 1]
    two = two.replace(two[axes[1] % right.rank], one[axes[0] % left.rank])
    shared = set(one) & set(two) - {"a"}
    out = "a" + "".join(x for x in one[1:] + two[1:] if x not in shared)
    if len(out) == 1:
        raise c.fail("of two vectors")
    return c.node("einsum", left, right, equation=f"{one},{two}->{out}")
