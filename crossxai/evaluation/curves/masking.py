"""The masking engine: every masked copy of a sample that a metric needs, numbered, and scored once in one stream.

Memory: one batch of copies; of one sample its orders and masks; fills of a few samples; about 32 bytes per copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution
from crossxai.evaluation.curves import on_device
from crossxai.evaluation.curves.building import Building
from crossxai.evaluation.curves.copies import Codes, Copy, Filling, Kind, Masks, Order, Ordering, Source, Subsets
from crossxai.evaluation.curves.fills import FillLike, filled, imputes, resolve
from crossxai.evaluation.curves.ranks import BLOCK, Blocks, Labels, Positions, Ranked, Ranking
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

SAMPLE = 2**40
"""Codes that one sample has, all its copies together."""


class RankedMaps(NamedTuple):
    """The order of an attribution's maps. usable (n,): finite; extras (n,): "tie_rate" and "degenerate"."""

    order: int
    ranked: Ranked
    usable: Masks
    extras: dict[str, Array]


class Masking:
    """Copies of a question's samples and their scores; `known` are the codes that are scored, sorted, and `scores` theirs."""

    def __init__(self, question: Question) -> None:
        # All modalities are given, whichever is masked, so that metrics of different modalities share a stream.
        self.question = question.only(*(m.name for m in question.model.modalities))
        self.known, self.scores = np.zeros(0, np.int64), np.zeros(0)
        self.orders: list[Ordering] = []
        self.fills: list[Filling] = []
        self._places = {m.name: i for i, m in enumerate(question.model.modalities)}
        # (order, fill, inserts) and the first code of its copies, that of count 0; code 0 is the sample itself.
        self._families, self._next = {(-1, -1, False): 0}, 1
        self._maps: dict[tuple[int, Ranking], RankedMaps] = {}
        self._attributions: list[Attribution] = []  # kept, because maps are known by identity
        self._digests: dict[tuple[Ranking, int, bytes], int] = {}
        self.labels: dict[tuple[str, str, int], dict[int, Labels]] = {}
        self.kinds: list[Kind] = []
        self._building = Building(self.question, self.orders, self.fills, self.kinds)

    # What copies are made of.

    def fill(self, fills: Mapping[str, FillLike], seed: int = 0, trail: tuple[int, ...] = ()) -> int:
        """The number of what replaces the units of these modalities; raises as `fills.filled` does where a fill does not fit."""
        kinds = []
        for name, given in fills.items():
            place, one = self._places[name], resolve(given)
            same = (number for number, kind in enumerate(self.kinds) if (kind.place, kind.fill) == (place, one))
            kinds.append(next(same, len(self.kinds)))
            if kinds[-1] == len(self.kinds):
                modality, values = self.question.model.modalities[place], self.question.inputs[place]
                filled(one, modality, values[:1])  # refused before any pass
                blocks = Blocks(partial(filled, one, modality, values), values)
                self.kinds.append(Kind(place, one, blocks, imputes(one)))
        draws = any(self.kinds[kind].imputes for kind in kinds)
        entry = Filling(tuple(kinds), seed if draws else 0, trail)
        if entry not in self.fills:
            self.fills.append(entry)
        return self.fills.index(entry)

    def order(self, source: Source, units: int | Positions) -> int:
        """The number of an order of removal over the units of the fill's modalities, numbered one after the other."""
        self.orders.append(Ordering(source, units))
        return len(self.orders) - 1

    def rank(self, attribution: Attribution, modality: Modality, key: Ranking) -> RankedMaps:
        """The order of an attribution's maps; equal maps of a sample share their copies."""
        known = (id(attribution), key)
        if known not in self._maps:
            labels = self.labels.setdefault((modality.name, key.unit, key.size), {})
            ranked = Ranked(self.question, attribution, modality, key, labels)
            usable, extras, digests = ranked.quality()
            number, alike = len(self.orders), key._replace(reduction="sum")
            first = [self._digests.setdefault((alike, row, digest), number) for row, digest in enumerate(digests)]
            equal = np.array(first, np.intp) if any(other != number for other in first) else None
            self.orders.append(Ordering(lambda row: Order(ranked(row)), ranked.total, equal, ranked))
            self._attributions.append(attribution)
            self._maps[known] = RankedMaps(number, ranked, usable, extras)
        return self._maps[known]

    # Codes: row * SAMPLE + a number for order, fill and direction + the count.

    def untouched(self, rows: Rows) -> Codes:
        """Codes (m, 1) of the samples themselves."""
        return np.asarray(rows, np.int64)[:, None] * SAMPLE

    def everything(self, rows: Rows, fill: int) -> Codes:
        """Codes (m, 1) of the samples with every unit of the fill's modalities replaced."""
        return self.untouched(rows) + self._family(-1, fill, False, 1)

    def codes(self, rows: Rows, order: int, fill: int, counts: npt.ArrayLike, inserts: bool = False) -> Codes:
        """Codes (m, points) of samples without an order's first counts (points,) or (m, points) units, or with those alone."""
        own = self.orders[order]
        units = own.units if isinstance(own.units, int) else own.units[rows][:, None]
        number = np.broadcast_to(np.asarray(counts, np.int64), (len(rows), np.shape(counts)[-1]))
        most = int(np.max(own.units, initial=1)) + 1
        if own.equal is None:
            first: Any = self._family(order, fill, inserts, most)
        else:
            different, which = np.unique(own.equal[rows], return_inverse=True)
            families = [self._family(int(one), fill, inserts, most) for one in different]
            first = np.array(families, np.int64)[which.reshape(-1)][:, None]
        inner = first + number
        none, all_of_it = (number == units, number == 0) if inserts else (number == 0, number == units)
        if not self.fills[fill].trail:
            inner = np.where(all_of_it, self._family(-1, fill, False, 1), inner)
        return np.asarray(rows, np.int64)[:, None] * SAMPLE + np.where(none, 0, inner)

    def decode(self, codes: Codes) -> Iterable[Copy]:
        """The copies behind codes (m,)."""
        rows, rest = np.divmod(codes, SAMPLE)
        specs, starts = list(self._families), np.fromiter(self._families.values(), np.int64)
        families = np.searchsorted(starts, rest, side="right") - 1
        counts = rest - starts[families]
        for row, family, count in zip(rows.tolist(), families.tolist(), counts.tolist(), strict=True):
            order, fill, inserts = specs[family]
            yield Copy(row, order, count, inserts, fill)

    def built_alone(self, codes: Codes) -> Masks:
        """Which copies (m,) have a fill of their own, since it reads the mask or the step before."""
        starts, families = np.fromiter(self._families.values(), np.int64), list(self._families)
        fills = [self.fills[fill] if fill >= 0 else None for _, fill, _ in families]
        alone = [
            fill is not None and bool(fill.trail or any(self.kinds[k].imputes for k in fill.kinds)) for fill in fills
        ]
        return np.array(alone)[np.searchsorted(starts, codes % SAMPLE, side="right") - 1]

    def _family(self, order: int, fill: int, inserts: bool, size: int) -> int:
        key = (order, fill, inserts)
        if key not in self._families:
            self._families[key] = self._next
            self._next += size
        return self._families[key]

    # Scores.

    def distinct(self, wanted: Callable[[Rows], Sequence[Codes]], points: int) -> Codes:
        """All codes, each once, sorted, of which `wanted` gives those of a few samples at a time, about `points` of each."""
        n, few = len(self.question), max(1, BLOCK // max(points, 1))
        parts = [np.zeros(0, np.int64)]
        for start in range(0, n, few):
            codes = wanted(np.arange(start, min(start + few, n)))
            parts.extend([np.unique(np.concatenate([part.reshape(-1) for part in codes]))] if codes else [])
        return np.concatenate(parts)

    def score(
        self, codes: Codes, progress: Callable[[int], object] | None = None, question: Question | None = None
    ) -> int:
        """Score the copies that are not known yet, in one stream; question: the same one with a faster copy of the model."""
        new = np.unique(codes)
        if len(self.known):
            new = np.setdiff1d(new, self.known, assume_unique=True)
        quick = question or self.question
        faster = replace(self.question, model=quick.model, check=quick.check)
        scores = on_device.scores(self, faster, new, progress)
        if scores is None:
            scores = faster.score_stream(new // SAMPLE, lambda part: self.build(new[part]), progress)
        if not len(self.known):
            self.known, self.scores = new, scores.astype(np.float64)
        elif len(new):
            places = np.searchsorted(self.known, new)
            self.known, self.scores = np.insert(self.known, places, new), np.insert(self.scores, places, scores)
        return len(new)

    def read(self, codes: Codes) -> npt.NDArray[np.float64]:
        """The scores of copies, in the shape of their codes."""
        return np.asarray(self.scores[np.searchsorted(self.known, codes)])

    # Building, where NumPy shares the model's memory; `on_device` is the other way.

    def build(self, codes: Codes) -> Inputs:
        """One batch of copies, sorted by sample, in arrays that the next batch uses again."""
        return self._building(list(self.decode(codes)))

    def order_of(self, copy: Copy) -> Order | Subsets:
        """The order of a copy's sample."""
        return self._building.order_of(copy)


def scores_replaced(question: Question, fills: Sequence[Mapping[Modality, FillLike]]) -> npt.NDArray[np.float64]:
    """Scores (n, 1 + fills) of the samples, and of those with all units of some modalities replaced, one mapping a column."""
    masking, rows = Masking(question), np.arange(len(question))
    copies = [masking.untouched(rows)]
    for given in fills:
        # As functions that read no mask: where everything goes, an imputing fill gives its plain value, without noise.
        whole = {modality.name: partial(filled, fill, modality) for modality, fill in given.items()}
        copies.append(masking.everything(rows, masking.fill(whole)))
    codes = np.concatenate(copies, axis=1)
    masking.score(codes)
    return masking.read(codes)


def scores_without(
    question: Question,
    fills: Mapping[Modality, FillLike],
    rows: Rows,
    source: Source,
    counts: npt.ArrayLike,
    units: int | Positions,
    inserts: bool = False,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Scores (m, points) of samples without the first counts of their orders' units, or with those alone; see `Masking.codes`."""
    masking = Masking(question)
    fill = masking.fill({modality.name: fill for modality, fill in fills.items()}, seed)
    order = masking.order(source, units)
    codes = masking.codes(rows, order, fill, counts, inserts)
    masking.score(codes)
    return masking.read(codes)
