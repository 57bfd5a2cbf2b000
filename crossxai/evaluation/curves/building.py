"""Masked copies in the host's memory: batches of arrays, each copy made of the one before it where they share an order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.copies import Copy, Filling, Kind, Order, Ordering, Subsets
from crossxai.evaluation.curves.fills import filled
from crossxai.evaluation.curves.ranks import Positions
from crossxai.model import Array, Inputs
from crossxai.question import Question


class Building:
    """Makes batches of copies of a question's samples; orders, fills and kinds are the masking engine's, which adds to them."""

    def __init__(self, question: Question, orders: list[Ordering], fills: list[Filling], kinds: list[Kind]) -> None:
        self.question, self.orders, self.fills, self.kinds = question, orders, fills, kinds
        self._buffers: tuple[Array, ...] = ()
        self._row, self._own = -1, dict[int, Order | Subsets]()
        self._refills: dict[tuple[int, int], tuple[tuple[int, ...], Array]] = {}

    def __call__(self, copies: Sequence[Copy]) -> Inputs:
        """One batch, sorted by sample, in arrays that the next batch uses again."""
        samples = self.question.inputs
        if not self._buffers or len(self._buffers[0]) < len(copies):
            self._buffers = tuple(np.empty((len(copies), *v.shape[1:]), v.dtype) for v in samples)
        batch, before = tuple(buffer[: len(copies)] for buffer in self._buffers), None
        for j, copy in enumerate(copies):
            if before is not None and self._goes_on(copy, before):
                for values in batch:
                    values[j] = values[j - 1]
                self._step(batch, j, copy, before)
            else:
                for values, own in zip(batch, samples, strict=True):
                    values[j] = own[copy.row]
                if copy.fill >= 0:
                    self._mask(batch, j, copy)
            before = copy
        return batch

    def order_of(self, copy: Copy) -> Order | Subsets:
        """A sample's order; only the current sample's are kept, since the stream goes sample by sample."""
        if copy.row != self._row:
            self._row, self._own, self._refills = copy.row, {}, {}
        if copy.order not in self._own:
            self._own[copy.order] = self.orders[copy.order].source(copy.row)
        return self._own[copy.order]

    def _goes_on(self, copy: Copy, before: Copy) -> bool:
        """Whether a copy differs from the one before it by the units between their counts alone."""
        if copy.order < 0 or copy._replace(units=0) != before._replace(units=0) or copy.units < before.units:
            return False
        filling = self.fills[copy.fill]
        alone = filling.trail or any(self.kinds[kind].imputes for kind in filling.kinds)
        return not alone and isinstance(self.order_of(copy), Order)

    def _step(self, batch: Inputs, j: int, copy: Copy, before: Copy) -> None:
        """Hide, or put back, the units between the counts of two copies in place."""
        own = self.order_of(copy)
        assert isinstance(own, Order)
        self._put(batch, j, copy, own.positions[own.end(before.units) : own.end(copy.units)], back=copy.inserts)

    def _mask(self, batch: Inputs, j: int, copy: Copy) -> None:
        """Overwrite the hidden positions of copy j of a batch in place."""
        filling = self.fills[copy.fill]
        if copy.order < 0:
            for kind in filling.kinds:
                self._replace(batch[self.kinds[kind].place][j], copy.row, kind, filling.seed)
        elif filling.trail:
            for kind in filling.kinds:
                batch[self.kinds[kind].place][j] = self._refilled(copy, kind, filling.trail)
        else:
            self._put(batch, j, copy, self.order_of(copy).hidden(copy.units, copy.inserts))

    def _put(self, batch: Inputs, j: int, copy: Copy, positions: Positions, back: bool = False) -> None:
        """The fill at these positions of copy j, or, put back, the sample itself."""
        filling, start, units, inside = self.fills[copy.fill], 0, self.order_of(copy)[0].shape[-1], positions
        for kind in filling.kinds:
            place = self.kinds[kind].place
            if len(filling.kinds) > 1:
                units = int(np.prod(ranks.space_of(self.question, self.question.model.modalities[place])))
                inside = positions[(positions >= start) & (positions < start + units)] - start
                start += units
            if back:
                sample = self.question.inputs[place][copy.row]
                _by_unit(batch[place][j], units)[inside] = _by_unit(sample, units)[inside]
            else:
                self._replace(batch[place][j], copy.row, kind, filling.seed, inside, units)

    def _replace(
        self, values: Array, row: int, kind: int, seed: int, hidden: Positions | None = None, units: int = 0
    ) -> None:
        """Fill one sample's hidden positions, of `units`, or everything."""
        _, fill, filled, draws = self.kinds[kind]
        if draws:
            mask = np.full(values.shape[:-1], hidden is None)
            if hidden is not None:
                mask.flat[hidden] = True
            values[...] = fill.impute(values, mask, self.question.rng(row, seed))  # type: ignore[attr-defined]
        elif hidden is None:
            values[...] = filled(row)
        else:
            _by_unit(values, units)[hidden] = _by_unit(filled(row), units)[hidden]

    def _refilled(self, copy: Copy, kind: int, trail: tuple[int, ...]) -> Array:
        """The copy after the steps of its trail, each filling from the copy as the one before left it."""
        own, (place, fill, _, _) = self.order_of(copy), self.kinds[kind]
        untouched: tuple[tuple[int, ...], Array] = ((), self.question.inputs[place][copy.row])
        before, state = self._refills.get((copy.order, kind), untouched)
        if before != trail[: len(before)]:
            before, state = untouched
        hidden = own.hidden(before[-1], False) if before else np.zeros(0, np.intp)
        for count in trail[len(before) :]:
            new = filled(fill, self.question.model.modalities[place], state[None])[0]
            hidden, done, state = own.hidden(count, False), len(hidden), np.array(state)
            _by_unit(state, own[0].shape[-1])[hidden[done:]] = _by_unit(new, own[0].shape[-1])[hidden[done:]]
        self._refills[copy.order, kind] = (trail, state)
        return state


def _by_unit(values: Array, units: int) -> npt.NDArray[np.void]:
    """One opaque item per unit, so that NumPy moves whole pixels at once, which is 2.5 times faster than by channel."""
    rows = np.ascontiguousarray(values.reshape(units, -1))
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
