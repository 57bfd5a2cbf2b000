"""What the tensors of one pass were computed from, and which of them are the results of a softmax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

INPUTS = 1
_COPIES = ("clone", "contiguous", "to", "_to_copy", "type", "type_as", "float", "double", "half", "bfloat16")


class Past(NamedTuple):
    """What a tensor was computed from, one bit each: INPUTS, and whatever else got a bit of its own.

    product: the bits of the products of matrices that no other such product has come after.
    """

    all: int = 0
    product: int = 0


@dataclass(frozen=True)
class Weights:
    """What is known of a softmax's result: the axis it sums to 1 over, the products it came from, when it was written."""

    axis: int
    product: int
    version: int


class Flow:
    """Knows of tensors as long as they live."""

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._past: MutableMapping[Tensor, Past] = WeakIdKeyDictionary()
        self._weights: MutableMapping[Tensor, Weights] = WeakIdKeyDictionary()
        for tensor in inputs:
            self._past[tensor] = Past(INPUTS)

    def past(self, *values: Any) -> Past:
        """What all tensors in these values were computed from."""
        every, product = 0, 0
        for tensor in tensors(values):
            past = self._past.get(tensor, Past())
            every, product = every | past.all, product | past.product
        return Past(every, product)

    def knows(self, tensor: Tensor) -> bool:
        """Whether it came out of a call that was seen."""
        return tensor in self._past

    def set(self, values: Any, past: Past) -> None:
        """All tensors in these values were computed from what `past` says."""
        for tensor in tensors(values):
            self._past[tensor] = past

    def softmax(self, result: Tensor, axis: int, product: int) -> None:
        """A softmax along an axis has given this."""
        self._weights[result] = Weights(axis % result.dim(), product, version(result))

    def weights(self, tensor: Tensor) -> Weights | None:
        """What is known of a softmax's result; None for any other tensor, and for one that was written to since."""
        known = self._weights.get(tensor)
        return known if known is not None and known.version == version(tensor) else None

    def same(self, name: str, before: Tensor, after: Tensor) -> bool:
        """Note that `after`, by the function of this name from a softmax's result, has the same numbers; else False."""
        known = self.weights(before)
        if known is None:
            return False
        axis = _axis(before, after, known.axis)
        if axis is None and name in _COPIES and after.shape == before.shape:
            axis = known.axis
        if axis is not None:
            self._weights[after] = Weights(axis, known.product, version(after))
        return axis is not None


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested sequences and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from tensors(tuple(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)


def swapped(values: Any, old: Tensor, new: Tensor) -> Any:
    """The same nested sequences and mappings with one tensor in another's place."""
    if isinstance(values, Mapping):
        return {key: swapped(value, old, new) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)([swapped(value, old, new) for value in values])
    return new if values is old else values


def version(tensor: Tensor) -> int:
    """How often its memory has been written to; tensors of inference mode don't count."""
    return 0 if tensor.is_inference() else tensor._version


def _axis(before: Tensor, after: Tensor, axis: int) -> int | None:
    """Where an axis is in another view of the whole of a tensor; None if `after` is none, or merges or splits it."""
    if after.numel() != before.numel() or after.dtype != before.dtype or after.data_ptr() != before.data_ptr():
        return None
    size, step = before.shape[axis], before.stride(axis)
    places = [i for i in range(after.dim()) if after.shape[i] == size and after.stride(i) == step]
    return places[0] if len(places) == 1 else None
