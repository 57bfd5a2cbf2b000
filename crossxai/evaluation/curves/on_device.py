"""Masking where the model runs: what copies are made of is laid there once, and a copy is a few whole numbers.

A sample, its ranks and its fills cross to the device once and go as soon as the stream has passed the sample; scores stay there
until the stream's end. What only the host can make (imputed and refilled copies) crosses whole, but nothing waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.device_stream import DeviceStream, backend_of
from crossxai.devices import PAIR, CopyParts, DeviceBackend
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.copies import Codes, Copies, Copy, Masks, Subsets
from crossxai.evaluation.curves.fills import Blur, KernelBlur
from crossxai.model import Array
from crossxai.question import Question, Rows

BITS = 24
"""Subsets that one number per unit holds."""
LONGEST = 2048
"""Pixels along an axis up to which it is blurred by a matrix."""


def scores(masking: Copies, question: Question, codes: Codes, progress: Callable[[int], object] | None) -> Array | None:
    """Scores (m,) of sorted codes; None where the model runs in the host's memory, or a sample has too many numbers."""
    backend = backend_of(question)
    if backend is None or not len(codes):
        return None
    if question.batch_size > PAIR:
        question = replace(question, batch_size=PAIR)
    alone, result = masking.built_alone(codes), np.zeros(len(codes))
    for part in (np.flatnonzero(~alone), np.flatnonzero(alone)):
        if len(part):
            result[part] = _Stream(masking, question, backend, codes[part])(progress, bool(alone[part[0]]))
    return result


class _Share(NamedTuple):
    """What a copy hides of one modality: the kind of its fill, and its ranks, known by a key among its sample's."""

    kind: int
    place: int
    key: tuple[Any, ...]
    make: Callable[[], Any]


class _Stream(DeviceStream):
    """Copies of one question on their way to their scores; what lies on the device is that of the samples at hand."""

    def __init__(self, masking: Copies, question: Question, backend: DeviceBackend, codes: Codes) -> None:
        super().__init__(question, backend)
        self.masking, self.codes = masking, codes
        self._matrices: dict[tuple[int, int], Any] = {}  # kind of fill and length of an axis → what blurs along it

    def __call__(self, progress: Callable[[int], object] | None, built: bool) -> npt.NDArray[np.float64]:
        """Scores (m,) of all codes. built: the host builds the copies."""
        make = self._built if built else self._masked

        def work(part: Rows) -> Any:
            codes = self.codes[part]
            copies = list(self.masking.decode(codes))
            self.forget(copies[0].row)
            rows, which = np.unique([copy.row for copy in copies], return_inverse=True)
            inputs, numbers = make(codes, copies, rows, which)
            return self.scored(inputs, numbers, rows, which)

        return self.take(self.question.stream(len(self.codes), work, progress, self.backend.clock))

    def _built(self, codes: Codes, copies: Sequence[Copy], rows: Rows, which: Rows) -> tuple[list[Any], Any]:
        inputs = [self.backend.put(values) for values in self.masking.build(codes)]
        return inputs, self.backend.put(which.astype(np.int32)[:, None])

    def _masked(self, codes: Codes, copies: Sequence[Copy], rows: Rows, which: Rows) -> tuple[list[Any], Any]:
        inputs = self.question.inputs
        numbers = np.full((len(copies), 3 + len(inputs)), -1, np.int32)
        numbers[:, 0] = which
        parts = [CopyParts([], [], []) for _ in inputs]
        places: list[dict[tuple[Any, ...], int]] = [{} for _ in inputs]

        def number(place: int, tensors: list[Any], key: tuple[Any, ...], row: int, make: Callable[[], Any]) -> int:
            """The number in the parts of what is laid on the device."""
            if (*key, row) not in places[place]:
                places[place][*key, row] = len(tensors)
                tensors.append(self.lay(row, key, make))
            return places[place][*key, row]

        for place, values in enumerate(inputs):
            for row in rows.tolist():
                number(place, parts[place].samples, ("sample", place), row, partial(values.__getitem__, row))
        for j, copy in enumerate(copies):
            if copy.fill < 0:
                continue
            numbers[j, 1], numbers[j, 2], shares = self._hidden(copy)
            for kind, place, key, make in shares:
                whole = partial(self._filled, kind, copy.row)
                fill = number(place, parts[place].fills, ("fill", kind), copy.row, whole)
                rank = number(place, parts[place].ranks, (*key, place), copy.row, make)
                numbers[j, 3 + place] = PAIR * fill + rank
        laid = self.backend.put(numbers)
        return self.backend.mask(laid, parts), laid

    def _hidden(self, copy: Copy) -> tuple[int, int, list[_Share]]:
        """The end and the bit of a copy, and what they hide of each modality that it masks."""
        kinds = self.masking.fills[copy.fill].kinds
        places = [self.masking.kinds[kind].place for kind in kinds]
        axes = [self.question.inputs[place].shape[1:] for place in places]
        if copy.order < 0:
            everything = [partial(np.zeros, (1,) * len(own), dtype=np.int32) for own in axes]
            return 1, -1, [_Share(k, p, ("all",), make) for k, p, make in zip(kinds, places, everything, strict=True)]
        end, word, bit = copy.units, 0, -1
        if ranked := self.masking.orders[copy.order].ranked:
            numbers = partial(ranked.early, copy.row)
        else:
            own = self.masking.order_of(copy)
            if isinstance(own, Subsets):
                end, (word, bit) = 0, divmod(copy.units - 1, BITS)
                numbers = partial(_packed, own.masks[word * BITS : (word + 1) * BITS])
            else:
                end = own.end(copy.units)
                numbers = partial(ranks.inverse, own.positions)
        shares, start = [], 0
        for kind, place, shape in zip(kinds, places, axes, strict=True):
            # An order of several modalities numbers the units of one after those of the other.
            own_units = math.prod(ranks.space_of(self.question, self.question.model.modalities[place]))
            share = slice(start, start + own_units) if len(kinds) > 1 else slice(None)
            make = partial(self._ranks, copy, numbers, share, shape)
            shares.append(_Share(kind, place, (copy.order, word, start), make))
            start += own_units
        return -1 - end if copy.inserts else end, bit, shares

    def _ranks(self, copy: Copy, numbers: Callable[[], npt.NDArray[Any]], share: slice, axes: tuple[int, ...]) -> Any:
        """Ranks on the device, for a share of some units: the leading axes, all of them or all but channels."""
        own = numbers()[share]
        leading = next(i for i in range(len(axes) + 1) if math.prod(axes[:i]) == len(own))
        laid = self.backend.put(own.reshape(*axes[:leading], *[1] * (len(axes) - leading)))
        if own.dtype == np.int32:
            return laid
        ranked = self.masking.orders[copy.order].ranked
        assert ranked is not None
        ties = ("ties", ranked.modality.name, ranked.key.unit, ranked.key.ties, ranked.key.seed)
        return self.backend.ranks(laid, self.lay(copy.row, ties, partial(ranked.among_equals, copy.row)))

    def _filled(self, kind: int, row: int) -> Any:
        """A sample's fill: blurred on the device; else an array with axes of length 1 where NumPy repeats one value."""
        place, fill, filled, _ = self.masking.kinds[kind]
        modality, lengths = self.question.model.modalities[place], self.question.inputs[place].shape[1:-1]
        if isinstance(fill, Blur | KernelBlur) and modality.spatial and max(lengths) <= LONGEST:
            for length in lengths:
                if (kind, length) not in self._matrices:
                    self._matrices[kind, length] = self.backend.put(fill.matrix(length))
            sample = self.sample(row, place)
            return self.backend.blurred(sample, [self._matrices[kind, length] for length in lengths])
        values = filled(row)
        return values[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in values.strides)]


def _packed(masks: Masks) -> npt.NDArray[np.int32]:
    """Masks (at most 24, units) as the bits of one number per unit."""
    numbers = np.zeros(masks.shape[1], np.int32)
    for bit, mask in enumerate(masks):
        numbers |= mask.astype(np.int32) << bit
    return numbers
