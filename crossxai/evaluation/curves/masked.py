"""Masked images scored when they are asked for, each once, however many curves and explainers share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Reduction
from crossxai.evaluation.curves import fills
from crossxai.evaluation.curves.ranks import Ranked, Ranking
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question


class Masked(NamedTuple):
    """One masked image of one sample.

    No modality: untouched. No ranking (-1): all filled. Else the first `units` units of the ranking are filled, or, if it
    inserts, all but those.
    """

    row: int
    modality: str = ""
    fill: int = -1
    ranking: int = -1
    inserts: bool = False
    units: int = 0


class Known(NamedTuple):
    """A ranking of an attribution's maps. usable (n,): finite. first (n,): number of the first ranking with the same map."""

    modality: str
    ranked: Ranked
    usable: npt.NDArray[np.bool_]
    first: npt.NDArray[np.intp]
    extras: dict[str, Array]


class Bank:
    """Scores of masked images by their names; `made` counts the forward passes spent."""

    def __init__(self, question: Question, progress: Callable[[int], object] = lambda _: None) -> None:
        # All modalities are given, whichever is perturbed, so that curves of different modalities share a stream.
        self.question = question.only(*(m.name for m in question.model.modalities))
        self.progress, self.made = progress, 0
        self.places = {m.name: i for i, m in enumerate(question.model.modalities)}
        self.kinds: list[tuple[str, fills.Fill]] = []
        self.fills: list[fills.Filled] = []
        self.rankings: list[Known] = []
        self.scores: dict[Masked, float] = {}
        self._first: dict[tuple[int, str, int, bytes], int] = {}
        self._known: dict[tuple[int, str, Reduction, int], int] = {}  # by identity: `rankings` keep attributions alive
        self._row, self._orders = -1, dict[int, npt.NDArray[np.intp]]()

    def fill(self, modality: Modality, fill: fills.FillLike) -> int:
        """The number of a modality's fill; equal fills have the same."""
        entry = (modality.name, fills.resolve(fill))
        if entry not in self.kinds:
            values = self.question.inputs[self.places[modality.name]]
            self.kinds.append(entry)
            self.fills.append(fills.Filled(entry[1], modality, values))
        return self.kinds.index(entry)

    def rank(self, attribution: Attribution, modality: Modality, reduction: Reduction, seed: int) -> int:
        """The number of the ranking of an attribution's maps; asked again, the same."""
        asked = (id(attribution), modality.name, reduction, seed)
        if asked in self._known:
            return self._known[asked]
        number = self._known[asked] = len(self.rankings)
        ranked = Ranked(self.question, attribution, modality, Ranking(number, modality.name, reduction, seed))
        usable, extras, digests = ranked.quality()
        first = np.full(len(usable), number, dtype=np.intp)
        for row in np.flatnonzero(usable).tolist():
            first[row] = self._first.setdefault((row, modality.name, seed, digests[row]), number)
        self.rankings.append(Known(modality.name, ranked, usable, first, extras))
        return number

    def image(self, row: int, fill: int, rank: int, inserts: bool, units: int) -> Masked:
        """The name of the image with `units` units of a ranking removed or inserted; identical masks have the same name."""
        held = self.rankings[rank]
        if units == (held.ranked.total if inserts else 0):
            return Masked(row)
        if units == (0 if inserts else held.ranked.total):
            return Masked(row, held.modality, fill)
        return Masked(row, held.modality, fill, int(held.first[row]), inserts, units)

    def ask(self, images: Iterable[Masked]) -> None:
        """Score those that are not known yet, in one stream of full batches."""
        jobs = sorted({image for image in images if image not in self.scores})
        if not jobs:
            return

        def make(part: npt.NDArray[np.intp]) -> Inputs:
            return self._copies([jobs[i] for i in part.tolist()])

        found = self.question.score_stream([image.row for image in jobs], make, self.progress)
        self.scores.update(zip(jobs, found.tolist(), strict=True))
        self.made += len(jobs)

    def _copies(self, images: list[Masked]) -> Inputs:
        rows = [image.row for image in images]
        # `_hide` writes through a reshaped view, which needs contiguous copies.
        inputs = tuple(np.ascontiguousarray(v[rows]) for v in self.question.inputs)
        for j, image in enumerate(images):
            if image.modality:
                self._hide(inputs[self.places[image.modality]][j], image)
        return inputs

    def _hide(self, values: Array, image: Masked) -> None:
        fill = self.fills[image.fill](image.row)
        if image.ranking < 0:
            values[...] = fill
            return
        ranked = self._order(image)
        hidden = ranked[image.units :] if image.inserts else ranked[: image.units]
        values.reshape(len(ranked), -1)[hidden] = fill.reshape(len(ranked), -1)[hidden]

    def _order(self, image: Masked) -> npt.NDArray[np.intp]:
        """A sample's order of units; only the current sample's are kept, since the stream goes sample by sample."""
        if image.row != self._row:
            self._row, self._orders = image.row, {}
        if image.ranking not in self._orders:
            self._orders[image.ranking] = self.rankings[image.ranking].ranked(image.row)
        return self._orders[image.ranking]
