"""The units a metric removes (pixels with all channels, columns, elements, patches or segments), and their order by relevance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, cast
from weakref import proxy

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Reduction, reduce_channels
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.evaluation.curves.steps import Counts, Rule
from crossxai.model import Array, Modality
from crossxai.question import Question

Positions = npt.NDArray[np.intp]
Ties = Literal["seeded", "stable", "flipped", "unstable"]


def modality_of(question: Question, name: str, metric: str) -> Modality:
    """The modality a metric works on: the one named, else the only free one; raises `Unsupported` if several are free."""
    if name:
        known = {m.name: m for m in question.model.modalities}
        if name not in known:
            raise UnknownName("modality", name, known)
        return known[name]
    if len(question.modalities) != 1:
        raise Unsupported(
            f"{metric} measures one modality at a time, {len(question.modalities)} are free "
            f"({', '.join(question.free)}): write modality={question.free[0]!r}"
        )
    return question.modalities[0]


def values_of(question: Question, modality: Modality) -> Array:
    """The inputs (n, *axes) of one modality."""
    return question.inputs[[m.name for m in question.model.modalities].index(modality.name)]


def space_of(question: Question, modality: Modality) -> tuple[int, ...]:
    """Shape of one sample's units: the axes without channels for an image, the columns for a table."""
    values = values_of(question, modality)
    return values.shape[1:-1] if modality.spatial else values.shape[1:]


def units(
    question: Question,
    attribution: Attribution,
    modality: Modality,
    reduction: Reduction = "sum",
    rows: slice = slice(None),
) -> Array:
    """One relevance per unit, (n, *space), of the samples `rows`; NaN and infinite maps pass through.

    Raises `InvalidInput` if the attribution is about other samples, lacks the modality, or does not broadcast to the inputs.
    """
    if attribution.ids != question.ids:
        raise InvalidInput(
            f"{attribution.explainer} explains samples {_some(attribution.ids)}, the question asks about "
            f"{_some(question.ids)}: evaluate with the question that was explained, same samples in the same order"
        )
    names = [m.name for m in attribution.modalities]
    if modality.name not in names:
        raise InvalidInput(f"{attribution.explainer} holds no map of {modality.name!r}, only of {', '.join(names)}")
    # A map with NaN or opposite infinities is the caller's to count, not worth a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        values = attribution.of(modality.name)[rows]
        # A map of booleans or integers ranks too.
        values = values.astype(np.result_type(values, np.float32), copy=False)
        reduced = reduce_channels(values, reduction) if modality.spatial else values
    shape = (len(reduced), *space_of(question, modality))
    if any(have not in (1, want) for have, want in zip(reduced.shape[1:], shape[1:], strict=True)):
        raise InvalidInput(
            f"{attribution.explainer}: map of {modality.name!r} has shape {reduced.shape[1:]}, the input has "
            f"{shape[1:]}: resize it to the input first"
        )
    return np.broadcast_to(reduced, shape)


def order(question: Question, relevance: Array, rows: npt.ArrayLike, seed: int = 0, ties: Ties = "seeded") -> Positions:
    """Unit numbers (m, units), most relevant first, for relevance (m, *space) of samples `rows` (m,).

    Ties, "seeded": one permutation per sample and seed breaks them, the same for every explainer. As libraries do: "stable" keeps
    raster order, "flipped" is NumPy's default argsort read backwards, "unstable" that of the negative, both by the processor.
    """
    flat = relevance.reshape(len(relevance), -1)
    if ties == "stable":
        return np.argsort(-flat, axis=1, kind="stable")
    if ties == "flipped":
        return np.argsort(flat, axis=1)[:, ::-1]
    if ties == "unstable":
        return np.argsort(-flat, axis=1)
    result = np.empty(flat.shape, dtype=np.intp)
    for i, row in enumerate(np.asarray(rows, dtype=np.intp).tolist()):
        result[i] = np.argsort(-flat[i])
        if (np.diff(flat[i, result[i]]) < 0).all():  # no ties to break, so that the fastest sort does
            continue
        shuffled = question.rng(row, seed).permutation(flat.shape[1])
        result[i] = shuffled[np.argsort(-flat[i, shuffled], kind="stable")]
    return result


def tie_rate(relevance: Array) -> npt.NDArray[np.float64]:
    """Share of units whose value equals another unit's value, per sample (n,); NaN for maps that are not finite."""
    flat = np.sort(relevance.reshape(len(relevance), -1), axis=1)
    same = flat[:, 1:] == flat[:, :-1]
    tied = np.zeros(flat.shape, dtype=bool)
    tied[:, 1:] |= same
    tied[:, :-1] |= same
    return np.where(usable(relevance), tied.mean(axis=1), np.nan)


def means(flat: Array, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Mean relevance of each group of units, for relevance (units,) and group numbers (units,) from 0, none missing."""
    # Around one value of the group, so that groups of one value have exactly that: rounding would rank a constant map.
    first = flat[np.unique(labels, return_index=True)[1]].astype(np.float64)
    return np.asarray(first + np.bincount(labels, weights=flat - first[labels]) / np.bincount(labels))


def usable(relevance: Array) -> npt.NDArray[np.bool_]:
    """Whether each map (n, *space) is finite everywhere, (n,)."""
    return np.asarray(np.isfinite(relevance.reshape(len(relevance), -1)).all(axis=1))


def degenerate(relevance: Array) -> npt.NDArray[np.float64]:
    """1.0 for maps that rank nothing (NaN, infinite, or constant over two or more units), else 0.0; shape (n,)."""
    flat = relevance.reshape(len(relevance), -1)
    constant = (flat == flat[:, :1]).all(axis=1) & (flat.shape[1] > 1)
    return np.asarray(constant | ~usable(relevance), dtype=np.float64)


def _some(ids: tuple[str, ...]) -> str:
    return f"({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}; {len(ids)} in all)"


Unit = Literal["pixel", "element", "patch", "segment"]
Order = Literal["morf", "lerf"]
Reducing = Literal[Reduction, "channels_abs_sum"]
Labels = npt.NDArray[np.unsignedinteger[Any]]
"""The number of the group that each unit belongs to, from 0, none missing: as small integers as can be."""


def labels_of(regions: npt.NDArray[Any]) -> Labels:
    """Groups (units,) of an array (*space) that has a number of its own for each region."""
    labels = np.unique(regions, return_inverse=True)[1].reshape(-1)
    return np.asarray(labels.astype(np.min_scalar_type(int(labels.max()))))


def patches(space: tuple[int, ...], side: int) -> Labels:
    """The square patch that each unit of `space` lies in, (units,); patches at the far edges may be smaller."""
    numbers = np.zeros(space, dtype=np.intp)
    for axis, length in enumerate(space):
        along = np.arange(length) // side
        numbers = numbers * (int(along[-1]) + 1) + along.reshape(-1, *[1] * (len(space) - axis - 1))
    return labels_of(numbers)


def in_groups(ranked: Positions, labels: Labels) -> tuple[Positions, Positions]:
    """Units in the order in which whole groups go, `ranked` (groups,), and how many of them the first groups hold, from none."""
    place = np.empty(len(ranked), np.intp)
    place[ranked] = np.arange(len(ranked))
    ends = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=len(ranked))[ranked])])
    return np.argsort(place[labels], kind="stable"), ends.astype(np.intp)


def inverse(positions: Positions) -> npt.NDArray[np.int32]:
    """The place of each unit (units,) in an order of all."""
    places = np.empty(len(positions), np.int32)
    places[positions] = np.arange(len(positions), dtype=np.int32)
    return places


def starts(ranked: Positions, labels: Labels) -> npt.NDArray[np.int32]:
    """How many units go before the group of each unit (units,), where whole groups go in the order `ranked` (groups,)."""
    sizes = np.bincount(labels, minlength=len(ranked))[ranked]
    before = np.empty(len(ranked), np.int32)
    before[ranked] = np.cumsum(sizes) - sizes
    return np.asarray(before[labels])


BLOCK = 2**20
"""Values that are filled, or maps that are reduced, at once: a few samples' exist at a time, never all."""


class Blocks:
    """What `make` gives for samples of `values` (n, …), made for a few samples at a time."""

    def __init__(self, make: Callable[[slice], Array], values: Array) -> None:
        self.make, self.length = make, max(1, BLOCK // max(values[0].size, 1))
        self._start, self._block = 0, values[:0]

    def __call__(self, row: int) -> Array:
        """One sample's; those of the samples near it are kept for the next calls."""
        if not self._start <= row < self._start + len(self._block):
            start = row - row % self.length
            # The block first: when memory runs out in it, the next try must not take the old one for it.
            self._block, self._start = self.make(slice(start, start + self.length)), start
        return np.asarray(self._block[row - self._start])


class Ranking(NamedTuple):
    """How a map of a modality becomes an order of units."""

    modality: str
    reduction: Reducing
    seed: int
    ties: Ties = "seeded"
    unit: Unit = "pixel"
    size: int = 0
    order: Order = "morf"


class Ranked:
    """The maps (n, *space) of one attribution as positions (pixels, columns or elements) in order of removal, per sample.

    Patches and segments rank by the mean relevance of their pixels, and each comes and goes whole; the positions within one
    keep raster order. Elements are numbered channels first, as in libraries, for their ties. labels: shared with other rankings.
    """

    def __init__(
        self, question: Question, attribution: Attribution, modality: Modality, key: Ranking, labels: dict[int, Labels]
    ) -> None:
        self.question, self.key = question, key
        self.attribution, self.modality = attribution, modality
        self.values = values_of(question, modality)
        if key.unit in ("patch", "segment") and not modality.spatial:
            raise Unsupported("a table has no patches or segments: write unit='pixel', which removes columns")
        first = self._relevance(slice(0, 1))
        self.space, self.total = first.shape[1:], int(np.prod(first.shape[1:]))
        # Weakly: a circle would hold the question, with its samples, until somebody looks for circles.
        self._blocks = Blocks(partial(Ranked._relevance, cast(Ranked, proxy(self))), self.values)
        self._labels = labels

    def quality(self) -> tuple[npt.NDArray[np.bool_], dict[str, Array], list[bytes]]:
        """Whether each map is finite, (n,), its "tie_rate" and "degenerate", and a digest by which equal maps are known."""
        length, digests, columns = self._blocks.length, list[bytes](), []
        for start in range(0, len(self.values), length):
            relevance = self._relevance(slice(start, start + length))
            columns.append((usable(relevance), tie_rate(relevance), degenerate(relevance)))
            digests.extend(blake2b(np.ascontiguousarray(one).tobytes(), digest_size=16).digest() for one in relevance)
        good, ties, flat = (np.concatenate(column) for column in zip(*columns, strict=True))
        return good, {"tie_rate": ties, "degenerate": flat}, digests

    def _relevance(self, rows: slice) -> Array:
        """Relevance (rows, *space) of some samples, channels included if elements are ranked."""
        reduction = self.key.reduction
        if reduction == "channels_abs_sum":
            single = self.attribution.of(self.modality.name).shape[-1] == 1
            reduction = "sum" if single and self.modality.spatial else "abs_sum"
        reduced = units(self.question, self.attribution, self.modality, reduction, rows)
        if self.key.unit != "element" or not self.modality.spatial:
            return reduced
        whole = np.broadcast_to(self.attribution.of(self.modality.name)[rows], self.values[rows].shape)
        return whole.astype(np.result_type(whole, np.float32), copy=False)

    def __call__(self, row: int) -> Positions:
        """Positions (total,) of one sample in the order of removal."""
        ranked, labels = self._ranked(row), self._grouping(row)
        if labels is not None:
            return in_groups(ranked, labels)[0]
        return self._positions(ranked)

    def _positions(self, units: Positions) -> Positions:
        """The positions of units, of which elements are numbered channels first."""
        if self.key.unit == "element" and len(self.space) > 1:
            channels = self.space[-1]
            channel, pixel = np.divmod(units, self.total // channels)
            return np.asarray(pixel * channels + channel)
        return units

    def early(self, row: int) -> npt.NDArray[Any]:
        """How early each position (total,) of one sample goes: its place among all, that of its group's first for groups.

        Or float32 values, of which the largest goes first and equal ones go in the order of `among_equals`: sorting is left.
        """
        labels = self._grouping(row)
        if labels is not None:
            return starts(self._ranked(row), labels)
        values = np.ascontiguousarray(self._blocks(row)).ravel()
        if self.key.ties not in ("seeded", "stable") or values.dtype != np.float32:
            return inverse(self(row))
        return -values if self.key.order == "lerf" else values

    def among_equals(self, row: int) -> npt.NDArray[np.int32]:
        """The order of the positions (total,) in which those of equal values go, the same for all maps of a sample."""
        seeded = self.key.ties == "seeded"
        first = self.question.rng(row, self.key.seed).permutation(self.total) if seeded else np.arange(self.total)
        return self._positions(first).astype(np.int32)

    def counts(self, row: int, rule: Rule) -> Counts:
        """How many positions of a sample are changed at each point."""
        labels, points = self._grouping(row), rule.counts(self._of(row))
        return points if labels is None else in_groups(self._ranked(row), labels)[1][points]

    def _ranked(self, row: int) -> Positions:
        """Units or groups of one sample in the order of removal."""
        ranked = order(self.question, self._of(row)[None], [row], self.key.seed, self.key.ties)
        return np.asarray(ranked[0])

    def _of(self, row: int) -> Array:
        """Relevance (units,) of one sample, the first to go being the largest."""
        values = self._blocks(row)
        if self.key.unit == "element":
            values = np.moveaxis(values, -1, 0)
        flat = np.ascontiguousarray(values).ravel()
        labels = self._grouping(row)
        if labels is not None:
            flat = means(flat, labels)
        return -flat if self.key.order == "lerf" else flat

    def _grouping(self, row: int) -> Labels | None:
        if self.key.unit in ("pixel", "element"):
            return None
        place = row if self.key.unit == "segment" else -1
        if place not in self._labels:
            segments = self.key.unit == "segment"
            size = self.key.size
            self._labels[place] = _segments(self.values[row], size) if segments else patches(self.space, size)
        return self._labels[place]


def _segments(image: Array, wanted: int) -> Labels:
    """SLIC superpixels (Achanta et al. 2012), as IROF uses them (Rieger and Hansen 2020, arXiv:2003.08747)."""
    from skimage.segmentation import slic

    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    colour = None if image.ndim == 3 else False  # three channels of a volume are no colours
    return labels_of(slic(scaled, n_segments=wanted, start_label=0, channel_axis=-1, convert2lab=colour))
