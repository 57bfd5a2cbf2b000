"""Perturbed copies that an explainer of ours describes by a few numbers, made on the device where the model runs: samples, fills
and groups cross once. Every function gives None where the model runs in the host's memory, where NumPy makes copies as fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.device_stream import DeviceStream, backend_of
from crossxai.devices import DeviceBackend, Factor
from crossxai.explainers.families import Window
from crossxai.explainers.groups import FiniteQuestion, Labels
from crossxai.model import Array
from crossxai.question import Question, Rows
from crossxai.resizing import interpolation

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def group_scorer(
    question: Question, row: int, labels: Sequence[Labels], fills: Sequence[Array | float]
) -> Callable[[Labels], Numbers] | None:
    """Scores (m,) of one sample's copies with the groups of each coalition (m, groups) shown, the others filled.

    labels: of each free modality, as of `groups.groups`; fills: of each free modality, one number or one sample's values.
    """
    if (backend := backend_of(question)) is None:
        return None
    copies = _Copies(question, backend, [[(numbers, 0)] for numbers in labels], fills)
    return lambda shown: copies(np.array([row]), [shown == 0], np.arange(len(shown))[:, None])[0]


def window_scores(question: Question, windows: Sequence[Sequence[Window]], fill: float) -> Numbers | None:
    """Scores (1 + windows, n) of every sample, untouched and with one window filled at a time; windows: of each free modality."""
    if (backend := backend_of(question)) is None:
        return None
    tables: list[npt.NDArray[np.bool_]] = []
    units: list[list[tuple[Whole, int]]] = []
    columns: list[Whole] = []
    first, copies = 1, 1 + sum(map(len, windows))
    for values, own in zip(question.values, windows, strict=True):
        units.append([])
        for axis in range(len(own[0])):
            size, slices = values.shape[1 + axis], [window[axis] for window in own]
            known = {(part.start, part.stop): 0 for part in slices}
            table, column = np.zeros((1 + len(known), size), bool), np.zeros(copies, np.int64)
            for line, (start, stop) in enumerate(known, 1):  # row 0 hides nothing
                known[start, stop] = line
                table[line, start:stop] = True
            column[first : first + len(own)] = [known[part.start, part.stop] for part in slices]
            place = [-1 if other == axis else 1 for other in range(values.ndim - 1)]
            units[-1].append((np.arange(size).reshape(place), len(tables)))
            tables.append(table)
            columns.append(column)
        first += len(own)
    hiding = _Copies(question, backend, units, [fill] * len(windows))
    return hiding(np.arange(len(question)), tables, np.stack(columns, axis=1)).T


class _Copies(DeviceStream):
    """Copies whose hidden units are told by rows of tables.

    units: of each free modality, numbers of its units and the table that hides them, see `devices.Factor`.
    """

    def __init__(
        self,
        question: Question,
        backend: DeviceBackend,
        units: Sequence[Sequence[tuple[Whole, int]]],
        fills: Sequence[Array | float],
    ) -> None:
        super().__init__(question, backend)
        self._hiding: list[tuple[list[tuple[Any, int]], Any]] = []  # of every modality, its units and its fill there
        free = iter(zip(units, fills, strict=True))
        for modality, values in zip(question.model.modalities, question.inputs, strict=True):
            if modality.name not in question.free:
                self._hiding.append(([], None))
                continue
            own, fill = next(free)
            filled = np.asarray(fill, values.dtype)
            laid = backend.put(filled if filled.ndim else filled.reshape((1,) * (values.ndim - 1)))
            self._hiding.append(([(backend.put(numbers.astype(np.int32)), table) for numbers, table in own], laid))

    def __call__(self, samples: Rows, tables: Sequence[npt.NDArray[np.bool_]], numbers: Whole) -> Numbers:
        """Scores (samples, copies) of copies numbers (copies, tables), which name a row of every table."""
        there = [self.backend.put(table.astype(np.uint8)) for table in tables]

        def work(part: Rows) -> Any:
            rows, which = np.unique(samples[part // len(numbers)], return_inverse=True)
            self.forget(int(rows[0]))
            copies = self.backend.put(np.column_stack([which, numbers[part % len(numbers)]]).astype(np.int32))
            inputs = []
            for place, (units, fill) in enumerate(self._hiding):
                whole = [self.sample(row, place) for row in rows.tolist()]
                factors = [Factor(own, there[table], copies[:, 1 + table]) for own, table in units]
                inputs.append(self.backend.hide(whole, copies[:, 0], factors, fill))
            return self.scored(inputs, copies, rows, which)

        scores = self.take(self.question.stream(len(samples) * len(numbers), work))
        if isinstance(self.question, FiniteQuestion):
            self.question.require_finite(scores, np.repeat(samples, len(numbers)))
        return scores.reshape(len(samples), len(numbers))


def masked_sum(
    question: Question, row: int, patterns: Array, corners: Whole, cells: Sequence[int], fill: float
) -> Numbers | None:
    """sum(score · mask) (*space) over one sample's copies, dimmed to the fill by masks of RISE.

    patterns (m, *grid): enlarged bilinearly to one cell more along each axis, and cropped from corners (m, axes) on; cells: the
    pixels of a cell along each axis.
    """
    if (backend := backend_of(question)) is None:
        return None
    stream, space = DeviceStream(question, backend), question.values[0].shape[1:-1]
    laid, filled = backend.put(patterns), backend.put(np.full((1,) * (1 + len(space)), fill, patterns.dtype))
    copies = backend.put(np.column_stack([np.zeros(len(corners)), corners]).astype(np.int32))
    matrices = [
        backend.put(interpolation(n, (n + 1) * cell)) for n, cell in zip(patterns.shape[1:], cells, strict=True)
    ]
    total: list[Any] = []

    def work(part: Rows) -> Any:
        own = slice(int(part[0]), int(part[-1]) + 1)
        numbers = copies[own]
        masks = backend.smooth_masks(laid[own], numbers[:, 1:], matrices, space)
        inputs = [
            backend.dim(stream.sample(row, place), masks, filled)
            if modality.name in question.free
            else backend.hide([stream.sample(row, place)], numbers[:, 0], [], None)
            for place, modality in enumerate(question.model.modalities)
        ]
        scores = stream.scored(inputs, numbers, np.array([row]), np.zeros(len(part), np.intp))
        there = backend.put(scores) if isinstance(scores, np.ndarray) else scores
        weighed = backend.weigh(masks, there)
        total[:] = [total[0] + weighed if total else weighed]

    question.stream(len(patterns), work)
    return stream.take(total).reshape(space)
