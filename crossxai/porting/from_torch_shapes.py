"""What changes of shape are in a graph: reshape, permute, slices, rolls, repetitions; functions bear torch's signatures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossxai.porting import layout
from crossxai.porting.from_torch_ops import Call, Joined, Ref, array


def reshape(c: Call, x: Any, *_shape: Any, **_named: Any) -> Ref:
    """view, reshape, flatten, squeeze, unsqueeze: all keep the order of the numbers, so the two shapes say everything."""
    if not isinstance(x, Ref):
        raise c.fail("of a constant by an activation's size")
    return shaped(c, x, c.result)


def shaped(c: Call, x: Ref, result: Tensor) -> Ref:
    before, after = list(x.value.shape), list(result.shape)
    c.view = True
    if isinstance(x, Joined) and after == list(x.inner.shape):
        return Ref(x.name, result, x.order)
    c.check(x)
    if after == before:
        return Ref(x.name, result, x.order)
    samples = x.order[0]
    if samples == 1 < before[0] and after[0] == before[0] * before[1]:
        inner = x.value.reshape(*before[:2], *after[1:])
        x = shaped(c, x, inner)
        return Joined(x.name, result, x.order, inner)
    if samples and layout.reshaped(before, after, x.order) is None:
        x = c.laid(x, layout.with_samples_first(before, after, samples) or x.order)
    found = layout.reshaped(before, after, x.order)
    if found is None:
        if len(after) == 2 and after[0] == before[0]:
            x = c.image(x, x.value.ndim) if x.order[-1] == 1 else c.plain(x)
            first = "channels_first" if x.order[-1] == 1 else "channels_last"
            return Ref(c.builder.add(c.name, "flatten", (x.name,), order=first), result)
        x = c.plain(x)
        found = layout.reshaped(before, after, x.order)
        assert found is not None
    shape, order = found
    if shape == tuple(before[axis] for axis in x.order):
        return Ref(x.name, result, order)
    if len(shape) == 2 < len(before) and shape[0] == before[0]:
        name = c.builder.add(c.name, "flatten", (x.name,), order="channels_last")
    elif len(before) == 2 and shape == (before[0], 1, 1, before[1]):
        name = c.builder.add(c.name, "expand", (x.name,))
    else:
        name = c.builder.add(c.name, "reshape", (x.name,), shape=shape[1:])
    return Ref(name, result, order)


def permute(c: Call, x: Any, *dims: Any, **named: Any) -> Ref:
    wanted = named.get("dims", dims[0] if len(dims) == 1 else dims)
    return moved(c, x, [int(d) % x.value.ndim for d in wanted])


def transpose(c: Call, x: Any, dim0: int, dim1: int) -> Ref:
    dims = list(range(c.check(x).value.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return moved(c, x, dims)


def turned(c: Call, x: Any) -> Ref:
    """t, T, mT: the last two axes."""
    return transpose(c, x, -2, -1)


def attribute(c: Call, x: Any, name: str) -> Ref:
    if name not in ("mT", "T"):
        raise c.fail(f"asks for {name!r} of an activation")
    return turned(c, x)


def movedim(c: Call, x: Any, source: Any, destination: Any) -> Ref:
    sizes = torch.empty(tuple(range(c.check(x).value.ndim)))  # all differ, so that they tell where each axis went
    return moved(c, x, list(sizes.movedim(source, destination).shape))


def moved(c: Call, x: Ref, dims: list[int]) -> Ref:
    """The same node: only where torch has its axes is new."""
    return c.alias(c.check(x), tuple(dims.index(axis) for axis in x.order))


def index(c: Call, x: Any, at: Any) -> Any:
    if isinstance(x, list | tuple):
        c.view = True
        return x[at]
    keys = list(at) if isinstance(at, tuple) else [at]
    rank = c.check(x).value.ndim
    if any(key is Ellipsis for key in keys):
        place = next(i for i, key in enumerate(keys) if key is Ellipsis)
        left = rank - sum(key is not None and key is not Ellipsis for key in keys)
        keys[place : place + 1] = [slice(None)] * left
    axis, taken = 0, 0
    for key in keys:
        if key is None:
            continue
        if isinstance(key, slice):
            x = part(c, x, axis, key)
        elif isinstance(key, int):
            x = part(c, x, axis, slice(key % x.value.shape[axis], key % x.value.shape[axis] + 1))
        elif isinstance(key, list | tuple | Tensor) and not taken:
            x, taken = take(c, x, axis, torch.as_tensor(key)), 1
        else:
            raise c.fail(f"takes entries by [{key}]")
        axis += 1
    if taken and any(isinstance(key, int) for key in keys):
        raise c.fail("takes entries by a list and a number at once")
    return shaped(c, x, c.result)


def part(c: Call, x: Ref, axis: int, key: slice) -> Ref:
    """x[..., key, ...] along an axis of torch's."""
    start, stop, step = key.indices(x.value.shape[axis])
    place = x.axis(axis)
    if place == 0 and (
        key.start or key.stop is not None or step != 1
    ):  # of another number of samples it would be a part
        raise c.fail("takes a part of the samples")
    if (start, stop, step) == (0, x.value.shape[axis], 1):
        return x
    value = x.value[(slice(None),) * (axis % x.value.ndim) + (key,)]
    return c.step("slice", x, value, axis=place, start=start, stop=stop, step=step)


def take(c: Call, x: Ref, axis: int, indices: Tensor) -> Ref:
    if indices.dtype == torch.bool:
        indices = indices.nonzero()[:, 0]
    place = x.axis(axis)
    if place == 0 or indices.ndim != 1:
        raise c.fail("takes some of the samples, or entries by more than one list")
    value = x.value.index_select(axis % x.value.ndim, indices)
    return c.step("take", x, value, axis=place, indices=[int(i) % x.value.shape[axis] for i in indices])


def index_select(c: Call, x: Any, dim: int, index: Tensor) -> Ref:
    return take(c, c.check(x), dim, index)


def flip(c: Call, x: Any, *dims: Any) -> Ref:
    for dim in dims[0] if isinstance(dims[0], tuple | list) else dims:
        x = take(c, c.check(x), dim, torch.arange(x.value.shape[dim] - 1, -1, -1))
    return Ref(x.name, c.result, x.order)


def select(c: Call, x: Any, dim: int, index: int) -> Ref:
    size = c.check(x).value.shape[dim]
    return shaped(c, part(c, x, dim, slice(index % size, index % size + 1)), c.result)


def narrow(c: Call, x: Any, dim: int, start: int, length: int) -> Ref:
    c.view = True
    return part(c, c.check(x), dim, slice(start, start + length))


def pieces(c: Call, x: Any, _sizes: Any = None, dim: int = 0, **_named: Any) -> list[Ref]:
    """chunk, split and tensor_split: what they gave says where they cut."""
    start, refs = 0, []
    for piece in c.result:
        end = start + piece.shape[dim]
        refs.append(Ref(part(c, c.check(x), dim, slice(start, end)).name, piece, x.order))
        start = end
    c.view = True
    return refs


def unbind(c: Call, x: Any, dim: int = 0) -> list[Ref]:
    return [shaped(c, part(c, c.check(x), dim, slice(i, i + 1)), piece) for i, piece in enumerate(c.result)]


def roll(c: Call, x: Any, shifts: Any, dims: Any = None) -> Ref:
    pairs = zip(*((v if isinstance(v, tuple | list) else (v,)) for v in (shifts, dims)), strict=True)
    x = c.check(x)
    for shift, dim in pairs:
        if dim is None or x.axis(dim) == 0:
            raise c.fail("over all numbers, or over the samples")
        if shift % x.value.shape[dim]:
            x = c.step("roll", x, x.value.roll(shift, dim), axis=x.axis(dim), shift=int(shift))
    return Ref(x.name, c.result, x.order)


def broadcast(c: Call, x: Any, *_sizes: Any, **_named: Any) -> Ref:
    """expand, repeat and tile, told from the sizes before and after."""
    rank, more = c.check(x).value.ndim, c.result.ndim - x.value.ndim
    c.view = True
    if more:
        x = shaped(c, x, x.value[(None,) * more])
    before, after = list(x.value.shape), list(c.result.shape)
    if before == after:
        return Ref(x.name, c.result, x.order)
    if x.order == layout.channels_first(4) and before[:2] == after[:2] and before[2:] == [1, 1] and rank == 4:
        return c.node("upsample2d", x, factors=tuple(after[2:]), method="nearest")
    times = tuple(after[axis] // before[axis] for axis in x.order)
    if times[0] != 1:
        raise c.fail("repeats samples")
    return c.node("tile", x, times=times[1:])


def repeat_interleave(c: Call, x: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Ref:
    if dim is None or not isinstance(repeats, int):
        raise c.fail(f"repeats={repeats}, dim={dim}; only a number along an axis")
    every = torch.arange(c.check(x).value.shape[dim]).repeat_interleave(repeats)
    return take(c, x, dim, every)


def stack(c: Call, tensors: Any, dim: int = 0) -> Ref:
    dim = dim % c.result.ndim
    if dim == 0 or not all(isinstance(t, Ref) for t in tensors):
        raise c.fail("puts values before the samples, or constants beside activations")
    every = [c.plain(shaped(c, ref, ref.value.unsqueeze(dim))) for ref in tensors]
    c.view = False
    return c.node("concatenate", *every, axis=dim)


def matmul(c: Call, left: Any, right: Any) -> Ref:
    """left @ right: a dense layer where one is a matrix that no input changes, else a sum over products."""
    if isinstance(left, Ref) and isinstance(right, Tensor) and right.ndim == 2:
        return c.node("dense", c.last(left), weights={"kernel": array(right)})
    names = "abcdefghijkl"[: c.result.ndim - 2]
    operands, terms = [], []
    for operand, last in ((left, "yz"), (right, "zx")):
        if isinstance(operand, Tensor):
            operand = operand.reshape([n for n in operand.shape[:-2] if n != 1] + list(operand.shape[-2:]))
        shape = tuple((operand.value if isinstance(operand, Ref) else operand).shape)
        if shape[:-2] != tuple(c.result.shape)[c.result.ndim - len(shape) : -2] or len(shape) < 2:
            raise c.fail(f"with a factor of shape {shape}: samples or groups are broadcast")
        operands.append(operand)
        terms.append((names + last)[-len(shape) :])
    return einsum(c, f"{','.join(terms)}->{names}yx", *operands)


def einsum(c: Call, equation: str, *operands: Any) -> Ref:
    operands = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    equation = equation.replace(" ", "")
    if len(operands) != 2 or "->" not in equation or "." in equation:
        raise c.fail(f"{equation!r}; only two terms, with what they give and no dots")
    terms, out = equation.split("->")
    letters = terms.split(",")
    known = next(o for o in operands if isinstance(o, Ref))
    refs = []
    for i, operand in enumerate(operands):
        if isinstance(operand, Ref):
            refs.append(operand)
            continue
        first = letters[1 - i][known.order[0]]
        if first in letters[i]:
            raise c.fail("with a constant that differs from sample to sample")
        letters[i] = first + letters[i]
        wide = Ref(known.name, known.value.new_empty((len(known.value), *operand.shape)))
        refs.append(c.constant(operand[None], wide))
    parts = ["".join(term[axis] for axis in ref.order) for term, ref in zip(letters, refs, strict=True)]
    if out[:1] != parts[0][0] or parts[0][0] != parts[1][0]:
        raise c.fail(f"{equation!r} has no axis of samples first in all terms")
    follows = refs[0].order == layout.plain(len(refs[0].order))
    order = _like(refs[1].order, letters[1], out) if follows else layout.plain(len(out))
    given = "".join(out[axis] for axis in order)
    return c.node("einsum", *refs, equation=f"{parts[0]},{parts[1]}->{given}", order=order)


def _like(order: layout.Order, letters: str, out: str) -> layout.Order:
    """The order of the second term, a new axis standing for the one summed over; torch's own if they do not match."""
    if len(letters) != len(out):
        return layout.plain(len(out))
    gone, new = set(letters) - set(out), set(out) - set(letters)
    if len(gone) != 1 or len(new) != 1:
        return layout.plain(len(out))
    swapped = letters.replace(gone.pop(), new.pop())
    return tuple(out.index(swapped[axis]) for axis in order)
