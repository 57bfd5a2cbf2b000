"""Which axes a matrix product of torch contracts, whichever of its functions is called."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_MATRICES = {"matmul": 0, "__matmul__": 0, "__rmatmul__": 0, "bmm": 0, "mm": 0, "baddbmm": 1, "addmm": 1, "linear": 0}
_NAMES = (("input", "self", "tensor1", "batch1", "mat1"), ("other", "mat2", "weight", "tensor2", "batch2"))


@dataclass(frozen=True)
class Product:
    """Its tensors, a label for each of their axes, and the labels that the result has."""

    tensors: tuple[Tensor, ...]
    labels: tuple[str, ...]
    result: str

    def order(self, position: int, keys: int) -> tuple[int, ...] | None:
        """The axes of one tensor as (samples, heads …, queries, keys) if it mixes the others along its axis `keys`.

        None if `keys` is not summed over together with another tensor, or if not exactly one other axis is its own.
        """
        own = self.labels[position]
        others = set("".join(labels for i, labels in enumerate(self.labels) if i != position))
        if own[keys] in self.result or own[keys] not in others:
            return None
        queries = [axis for axis, label in enumerate(own) if label not in others and label in self.result]
        rest = [axis for axis, label in enumerate(own) if label in others and axis != keys]
        if len(queries) != 1 or len(rest) + 2 != len(own):
            return None
        return (*rest, *queries, keys)


def product(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Product | None:
    """What a call of the function of this name multiplies; None if it is no product of two or more tensors."""
    if name == "einsum":
        return _einsum(args)
    if name not in _MATRICES:
        return None
    given = list(args[_MATRICES[name] :][:2])
    for names in _NAMES[len(given) :]:
        given += [kwargs[key] for key in names if key in kwargs][:1]
    if len(given) != 2 or not all(isinstance(t, Tensor) and t.dim() >= 2 for t in given):
        return None
    left, right = reversed(given) if name == "__rmatmul__" else given
    batch = _batch(max(left.dim(), right.dim()) - 2)
    second = "dk" if name == "linear" else "kd"
    labels = (batch[len(batch) - left.dim() + 2 :] + "qk", batch[len(batch) - right.dim() + 2 :] + second)
    return Product((left, right), labels, batch + "qd")


def _einsum(args: tuple[Any, ...]) -> Product | None:
    equation, operands = args[0], args[1:]
    if len(operands) == 1 and isinstance(operands[0], Sequence):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or len(operands) < 2 or not all(isinstance(t, Tensor) for t in operands):
        return None
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:  # then the result has, in order, the labels that occur once
        result = "..." * ("..." in left) + "".join(sorted(c for c in set(left) - {",", "."} if left.count(c) == 1))
    wild = [t.dim() - len(term) + 3 for t, term in zip(operands, terms, strict=True) if "..." in term]
    batch = _batch(max(wild, default=0))
    labels = [
        term.replace("...", batch[len(batch) - (t.dim() - len(term) + 3) :])
        for t, term in zip(operands, terms, strict=True)
    ]
    return Product(tuple(operands), tuple(labels), result.replace("...", batch))


def _batch(count: int) -> str:
    """So many labels that no equation has."""
    return "".join(itertools.islice(map(chr, itertools.count(0x100)), count))
