"""Removal: copies of samples with chosen units replaced, streamed through the model in full batches.

Memory beyond the question's own arrays: one batch of copies, and of one sample its fill and its masks (copies × units bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.fills import imputes
from crossxai.model import Inputs, Modality
from crossxai.question import Question, Rows

Masks = npt.NDArray[np.bool_]
Maker = Callable[[Rows], Inputs]
"""Numbers of copies (m,) of one sample → those copies, one array (m, *axes) per free modality."""


def score_copies(
    question: Question, rows: Rows, copies: Sequence[int], sample: Callable[[int], Maker]
) -> list[npt.NDArray[np.float64]]:
    """Scores (copies[i],) of the copies of sample rows[i], for each i; the free modalities are those that are made.

    `sample(row)` is asked once per sample, in order, and what it returns is dropped when the next one begins.
    """
    which = np.repeat(np.arange(len(rows)), copies)
    number = np.arange(len(which)) - np.repeat(np.cumsum(copies) - copies, copies)
    held: tuple[int, Maker | None] = (-1, None)

    def make(part: Rows) -> Inputs:
        nonlocal held
        found: list[Inputs] = []
        edges = np.flatnonzero(np.diff(which[part])) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(part)]):
            i = int(which[part[start]])
            if held[0] != i:
                held = (-1, None)  # so that two samples' masks never exist at once
                held = (i, sample(int(rows[i])))
            assert held[1] is not None
            found.append(held[1](number[part[start:stop]]))
        return tuple(np.concatenate(column) for column in zip(*found, strict=True))

    scores = question.score_stream(np.asarray(rows)[which], make).astype(np.float64)
    return np.split(scores, np.cumsum(copies)[:-1].astype(np.intp)) if len(rows) else []


class Removal:
    """Copies of samples in which masked units, pixels with all their channels or columns, hold their fill.

    Units of several modalities are numbered one after the other, in the order given, which must be the model's. Raises as
    `baselines.filled` does if a fill does not fit its modality.
    """

    def __init__(self, question: Question, modalities: Sequence[Modality], given: Sequence[fills.FillLike]) -> None:
        self.question = question.only(*(m.name for m in modalities))
        self.modalities = tuple(modalities)
        self.fills = tuple(fills.resolve(fill) for fill in given)
        self.spaces = [ranks.space_of(question, m) for m in modalities]
        self.sizes = [int(np.prod(space)) for space in self.spaces]
        for fill in filter(imputes, self.fills):
            raise Unsupported(
                f"fill {fills.describe(fill)!r} makes hidden pixels of those that are left, which deletion, insertion and "
                "ROAD do: write a fill that is the same for every mask, such as 'zero', 'mean' or 'blur'"
            )
        self._filled(0)  # a fill that does not fit is refused before any pass

    @property
    def units(self) -> int:
        """Number of units of one sample, all modalities together."""
        return sum(self.sizes)

    def maker(self, row: int, masks: Masks) -> Maker:
        """Copies of sample `row` where masks (copies, units) are true."""
        own = tuple(values[row : row + 1] for values in self.question.values)
        fills = self._filled(row)
        places = np.cumsum([0, *self.sizes]).tolist()

        def make(numbers: Rows) -> Inputs:
            chosen = masks[numbers]
            copies = []
            for i, (values, fill) in enumerate(zip(own, fills, strict=True)):
                hidden = chosen[:, places[i] : places[i + 1]].reshape(len(chosen), *self.spaces[i])
                hidden = hidden.reshape(*hidden.shape, *[1] * (values.ndim - hidden.ndim))
                copies.append(np.where(hidden, fill, values))
            return tuple(copies)

        return make

    def scores(self, rows: Rows, copies: Sequence[int], masks: Callable[[int], Masks]) -> list[npt.NDArray[np.float64]]:
        """Scores of the masked copies of each sample, masks(row) being (copies, units) for it; see `score_copies`."""
        return score_copies(self.question, rows, copies, lambda row: self.maker(row, masks(row)))

    def _filled(self, row: int) -> Inputs:
        return tuple(
            fills.filled(fill, modality, values[row : row + 1])
            for fill, modality, values in zip(self.fills, self.modalities, self.question.values, strict=True)
        )


def counts(units: int, steps: int) -> npt.NDArray[np.intp]:
    """Numbers of units removed at each point: 0 … units, evenly spaced, distinct, at most steps + 1 of them."""
    return np.unique(np.rint(np.linspace(0, units, steps + 1)).astype(np.intp))


def first_of(order: npt.NDArray[np.intp], counts: npt.NDArray[np.intp]) -> Masks:
    """Masks (len(counts), units) of the first counts[j] units of an order (units,)."""
    ranks = np.empty(len(order), dtype=np.intp)
    ranks[order] = np.arange(len(order))
    return np.asarray(ranks < counts[:, None])
