"""How well a map's order or values separate a mask from the rest: rank accuracy, top-k, average precision, IoU and Dice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Scores
from crossxai.evaluation.metrics.localisation import Masked, Masks, defined, flattened
from crossxai.evaluation.metrics.similarity import places
from crossxai.model import Array

Numbers = npt.NDArray[np.float64]
Take = Literal["best", "mean"]
By = Literal["mask", "share", "value"]
Of = Literal["attainable", "k"]


def rank_accuracy(relevance: Array, masks: Masks) -> Numbers:
    """Of the k most relevant units, k the size of the mask, the share inside it, for maps and masks (n, *space), (n,).

    Relevance Rank Accuracy, Arras et al. 2022 (Information Fusion 81). Units tied at the k-th place share the places left.
    NaN where the mask is empty or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    return _each(flat, inside, lambda row, mask: _hits(row, mask, int(mask.sum())) / mask.sum())


def top_k_intersection(relevance: Array, masks: Masks, share: float = 0.1, of: Of = "k") -> Numbers:
    """Of the k = ceil(share · units) most relevant units, the share inside the mask, (n,); ties and NaN as in `rank_accuracy`.

    of "k": top-k intersection, Theiner et al. 2022 (WACV), by share of the units instead of a fixed 1000; where the mask is the
    smaller, a perfect map gets no more than mask / k. "attainable": of the most hits that there can be, the smaller of k and
    the mask, so that a perfect map gets 1.
    """
    flat, inside = flattened(relevance, masks)
    k = _count(share, flat.shape[1])
    return _each(flat, inside, lambda row, mask: _hits(row, mask, k) / (k if of == "k" else min(k, int(mask.sum()))))


def average_precision(relevance: Array, masks: Masks) -> Numbers:
    """Area under the precision-recall curve of units as mask or not, Σ (R_j - R_{j-1}) P_j over distinct values, (n,).

    Tied units come in together, so no order among them is assumed; a constant map has the mask's share of the area. NaN where
    the mask is empty or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    return _each(flat, inside, _average_precision)


def overlaps(relevance: Array, masks: Masks, steps: int, by: By) -> tuple[Numbers, Numbers]:
    """(IoU, Dice) of the mask and the units above a threshold, (n, steps) each, at `thresholds`.

    by "mask": as many of the most relevant units as the mask has, times the threshold, which is 1 once, so that a perfect map
    reaches 1 whatever the mask's size. "share": the ceil(threshold · units) most relevant units. Of both, ties at the edge count
    by fractions of a unit. "value": units whose value, put to [0, 1] by the map's smallest and largest, is at least
    1 - threshold (Choe et al. 2020). The last two grow to everything at 1. NaN as in `rank_accuracy`; a constant map has no
    values between: NaN by value.
    """
    flat, inside = flattened(relevance, masks)
    iou, dice = np.full((2, len(flat), steps), np.nan)
    at = thresholds(steps, by)
    for i in np.flatnonzero(defined(flat, inside)).tolist():
        mask = float(inside[i].sum())
        if by != "value":
            counts = _counts(at, by, int(mask), flat.shape[1])
            common = np.array([_hits(flat[i], inside[i], int(k)) for k in counts])
            taken = counts.astype(np.float64)
        else:
            low, high = flat[i].min(), flat[i].max()
            if low == high:
                continue
            unit = (flat[i] / 2 - low / 2) / (high / 2 - low / 2)  # halves, so that huge ranges stay finite
            ordered, own = np.sort(unit), np.sort(unit[inside[i]])
            edges = 1 - at
            taken = len(ordered) - np.searchsorted(ordered, edges, side="left").astype(np.float64)
            common = len(own) - np.searchsorted(own, edges, side="left").astype(np.float64)
        iou[i] = common / (taken + mask - common)
        dice[i] = 2 * common / (taken + mask)
    return iou, dice


def thresholds(steps: int, by: By) -> Numbers:
    """Where overlaps are measured (steps,): 1/steps … 1, or, by "mask", multiples of the mask's size up to 2, 1 among them."""
    return np.asarray(np.arange(1, steps + 1) / (math.ceil(steps / 2) if by == "mask" else steps))


def _counts(at: Numbers, by: By, mask: int, units: int) -> npt.NDArray[np.intp]:
    """How many units are taken at each threshold."""
    whole = np.ceil(at * (mask if by == "mask" else units) - 1e-9)
    return np.minimum(whole, units).astype(np.intp)


def _count(share: float, units: int) -> int:
    return math.ceil(share * units - 1e-9)  # 0.07 · 100 is 7.000000000000001


@dataclass(frozen=True, eq=False)
class RelevanceRank(Masked):
    """Share of the most relevant units, as many as the mask has, that lie inside it; higher is better."""

    name: ClassVar[str] = "relevance_rank"
    invariant_to: ClassVar[str] = "order"
    source: ClassVar[str] = "Arras et al. 2022"
    area_as: ClassVar[str] = "chance"

    def _value(self, relevance: Array, masks: Masks) -> Array:
        return rank_accuracy(relevance, masks)


@dataclass(frozen=True, eq=False)
class TopK(Masked):
    """Share of the most relevant units, a fixed share of all, that lie inside the mask; higher is better.

    Parameters
    ----------
    share : float
        Of all units, in (0, 1].
    of : {"attainable", "k"}
        "attainable", of as many hits as there can be, so that a perfect map gets 1; "k", of all that are taken, as published,
        where a perfect map of a mask of 1 % of the image gets 0.1.

    Notes
    -----
    extras["chance"] is what a map of random order gets.
    """

    share: float = 0.1
    of: Of = "attainable"

    name: ClassVar[str] = "top_k_intersection"
    invariant_to: ClassVar[str] = "order"
    source: ClassVar[str] = "Theiner et al. 2022"
    area_as: ClassVar[str] = "chance"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("share", whole=True)
        self._one_of("of", get_args(Of))

    def _measured(self, relevance: Array, masks: Masks) -> Scores:
        scores = super()._measured(relevance, masks)
        sizes = masks.reshape(len(masks), -1).sum(axis=1)
        units = masks[0].size
        k = _count(self.share, units)
        chance = sizes / units if self.of == "k" else k * sizes / units / np.maximum(np.minimum(k, sizes), 1)
        return replace(scores, extras={"chance": chance})

    def _value(self, relevance: Array, masks: Masks) -> Array:
        return top_k_intersection(relevance, masks, self.share, self.of)

    def _params(self) -> dict[str, object]:
        return {"share": self.share, "of": self.of}


@dataclass(frozen=True, eq=False)
class AveragePrecision(Masked):
    """Area under the precision-recall curve of units ranked by relevance, mask against rest; higher is better."""

    name: ClassVar[str] = "auprc"
    invariant_to: ClassVar[str] = "order"
    source: ClassVar[str] = "Davis and Goadrich 2006"
    area_as: ClassVar[str] = "chance"

    def _value(self, relevance: Array, masks: Masks) -> Array:
        return average_precision(relevance, masks)


@dataclass(frozen=True, eq=False)
class _Swept(Masked):
    """An overlap of the mask and the units above a threshold, over swept thresholds.

    Parameters
    ----------
    steps : int
        How many thresholds; the scores' curve runs over them.
    by : {"mask", "share", "value"}
        What the thresholds are, see `overlaps`. By "mask" a perfect map gets 1; by "share" only if the mask is one of the
        `steps` shares of the image: of 20, one of 1 % cannot be met, and a perfect map's best Dice is 0.33. By "share" and
        "value" curves end with the mask's share of the area for any map.
    take : {"best", "mean"}
        The "best" threshold of each sample, which flatters, or the "mean" over all.

    Notes
    -----
    extras hold both "best" and "mean", and the share of the units (or the value) at which the best is reached.
    """

    steps: int = 20
    by: By = "mask"
    take: Take = "best"

    invariant_to: ClassVar[str] = "order"
    curve_over: ClassVar[str] = "threshold"
    area_as: ClassVar[str] = "mask_area"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("steps")
        self._one_of("by", get_args(By))
        self._one_of("take", get_args(Take))

    def _params(self) -> dict[str, object]:
        return {"steps": self.steps, "by": self.by, "take": self.take, "curve_over": self.curve_over}

    def _measured(self, relevance: Array, masks: Masks) -> Scores:
        curve = self._curve(relevance, masks)
        fractions = thresholds(self.steps, self.by)
        known = np.asarray(np.isfinite(curve).all(axis=1))
        best = fractions[np.where(known[:, None], curve, 0).argmax(axis=1)]
        if self.by == "mask":
            sizes = masks.reshape(len(masks), -1).sum(axis=1)
            best = np.minimum(np.ceil(best * sizes - 1e-9) / masks[0].size, 1)
        where = np.where(known, best, np.nan)
        extras = {"best": curve.max(axis=1), "mean": curve.mean(axis=1), "best_threshold": where}
        return Scores(self.name, extras[self.take], self.higher_is_better, curve, fractions, extras)

    def _curve(self, relevance: Array, masks: Masks) -> Numbers:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class MaskIoU(_Swept):
    """Intersection over union of the mask and the most relevant units, over swept thresholds; higher is better."""

    name: ClassVar[str] = "mask_iou"
    source: ClassVar[str] = "Choe et al. 2020"

    def _curve(self, relevance: Array, masks: Masks) -> Numbers:
        return overlaps(relevance, masks, self.steps, self.by)[0]


@dataclass(frozen=True, eq=False)
class MaskDice(_Swept):
    """Dice coefficient of the mask and the most relevant units, over swept thresholds; higher is better."""

    name: ClassVar[str] = "mask_dice"
    source: ClassVar[str] = "Dice 1945; thresholds as in Choe et al. 2020"

    def _curve(self, relevance: Array, masks: Masks) -> Numbers:
        return overlaps(relevance, masks, self.steps, self.by)[1]


def _each(flat: Numbers, inside: Masks, value: Callable[[Numbers, Masks], float]) -> Numbers:
    good = defined(flat, inside)
    return np.array(
        [float(value(row, mask)) if ok else np.nan for row, mask, ok in zip(flat, inside, good, strict=True)]
    )


def _hits(row: Numbers, mask: Masks, k: int) -> float:
    """How many of the k most relevant units are inside the mask, ties by fractions."""
    return round(
        float(places(row[None], k)[0][mask].sum()), 9
    )  # fractions of ties add up to whole hits, but for rounding


def _average_precision(row: Numbers, mask: Masks) -> float:
    order = np.argsort(-row, kind="stable")
    ordered = row[order]
    last = np.append(
        np.flatnonzero(ordered[1:] != ordered[:-1]), len(row) - 1
    )  # the last unit of each run of equal values
    hits = np.cumsum(mask[order])[last]
    return float((np.diff(hits, prepend=0) / mask.sum() * hits / (last + 1)).sum())
