"""How well a map's order or values separate a mask from the rest: rank accuracy, top-k, average precision, IoU and Dice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.evaluation.agreement import places
from crossxai.evaluation.checks import whole
from crossxai.evaluation.localisation import Masked, Masks, defined, flattened
from crossxai.model import Array
from crossxai.scores import Scores

Numbers = npt.NDArray[np.float64]
Take = Literal["best", "mean"]
By = Literal["share", "value"]


def rank_accuracy(relevance: Array, masks: Masks) -> Numbers:
    """Of the k most relevant units, k the size of the mask, the share inside it, for maps and masks (n, *space), (n,).

    Relevance Rank Accuracy, Arras et al. 2022 (Information Fusion 81). Units tied at the k-th place share the places left.
    NaN where the mask is empty or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    return _each(flat, inside, lambda row, mask: _hits(row, mask, int(mask.sum())) / mask.sum())


def top_k_intersection(relevance: Array, masks: Masks, share: float = 0.1) -> Numbers:
    """Of the ceil(share · units) most relevant units, the share inside the mask, (n,); ties and NaN as in `rank_accuracy`.

    Top-k intersection, Theiner et al. 2022 (WACV), by share of the units instead of a fixed 1000. It cannot exceed
    mask / k where the mask is the smaller.
    """
    flat, inside = flattened(relevance, masks)
    k = math.ceil(share * flat.shape[1] - 1e-9)  # 0.07 · 100 is 7.000000000000001
    return _each(flat, inside, lambda row, mask: _hits(row, mask, k) / k)


def average_precision(relevance: Array, masks: Masks) -> Numbers:
    """Area under the precision-recall curve of units as mask or not, Σ (R_j - R_{j-1}) P_j over distinct values, (n,).

    Tied units come in together, so no order among them is assumed; a constant map has the mask's share of the area. NaN where
    the mask is empty or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    return _each(flat, inside, _average_precision)


def overlaps(relevance: Array, masks: Masks, steps: int, by: By) -> tuple[Numbers, Numbers]:
    """(IoU, Dice) of the mask and the units above a threshold, (n, steps) each, at thresholds 1/steps … 1.

    by "share": the ceil(share · units) most relevant units; ties at the edge count by fractions of a unit. by "value": units
    whose value, put to [0, 1] by the map's smallest and largest, is at least 1 - threshold (Choe et al. 2020). So either
    way the region grows to everything at 1. NaN as in `rank_accuracy`; a constant map has no values between: NaN by value.
    """
    flat, inside = flattened(relevance, masks)
    iou, dice = np.full((2, len(flat), steps), np.nan)
    thresholds = np.arange(1, steps + 1) / steps
    for i in np.flatnonzero(defined(flat, inside)).tolist():
        mask = float(inside[i].sum())
        if by == "share":
            counts = np.ceil(thresholds * flat.shape[1] - 1e-9).astype(np.intp)
            common = np.array([_hits(flat[i], inside[i], int(k)) for k in counts])
            taken = counts.astype(np.float64)
        else:
            low, high = flat[i].min(), flat[i].max()
            if low == high:
                continue
            unit = (flat[i] / 2 - low / 2) / (high / 2 - low / 2)  # halves, so that huge ranges stay finite
            ordered, own = np.sort(unit), np.sort(unit[inside[i]])
            edges = 1 - thresholds
            taken = len(ordered) - np.searchsorted(ordered, edges, side="left").astype(np.float64)
            common = len(own) - np.searchsorted(own, edges, side="left").astype(np.float64)
        iou[i] = common / (taken + mask - common)
        dice[i] = 2 * common / (taken + mask)
    return iou, dice


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

    share: of all units, in (0, 1].
    """

    share: float = 0.1

    name: ClassVar[str] = "top_k_intersection"
    invariant_to: ClassVar[str] = "order"
    source: ClassVar[str] = "Theiner et al. 2022"
    area_as: ClassVar[str] = "chance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InvalidInput(f"{self.name}: share must lie in (0, 1], got {self.share!r}")

    def _value(self, relevance: Array, masks: Masks) -> Array:
        return top_k_intersection(relevance, masks, self.share)

    def _params(self) -> dict[str, object]:
        return {"share": float(self.share)}


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
    """steps, by: the thresholds, see `overlaps`; the scores' curve runs over them, and ends with the mask's share of the area
    for any map. take: the "best" threshold of each sample, which flatters, or the "mean" over all. extras hold both, and
    the share or value at which the best is reached."""

    steps: int = 20
    by: By = "share"
    take: Take = "best"

    invariant_to: ClassVar[str] = "order"
    curve_over: ClassVar[str] = "threshold"
    area_as: ClassVar[str] = "mask_area"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.steps, 1, f"{self.name}: steps")
        for field, kind in (("by", By), ("take", Take)):
            if getattr(self, field) not in get_args(kind):
                raise InvalidInput(
                    f"{self.name}: unknown {field} {getattr(self, field)!r}: write {' or '.join(get_args(kind))}"
                )

    def _params(self) -> dict[str, object]:
        return {"steps": int(self.steps), "by": self.by, "take": self.take, "curve_over": self.curve_over}

    def _verdict(self, relevance: Array, masks: Masks) -> Scores:
        curve = self._curve(relevance, masks)
        fractions = np.arange(1, self.steps + 1) / self.steps
        known = np.asarray(np.isfinite(curve).all(axis=1))
        where = np.where(known, fractions[np.where(known[:, None], curve, 0).argmax(axis=1)], np.nan)
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
    return float(places(row[None], k)[0][mask].sum())


def _average_precision(row: Numbers, mask: Masks) -> float:
    order = np.argsort(-row, kind="stable")
    ordered = row[order]
    last = np.append(
        np.flatnonzero(ordered[1:] != ordered[:-1]), len(row) - 1
    )  # the last unit of each run of equal values
    hits = np.cumsum(mask[order])[last]
    return float((np.diff(hits, prepend=0) / mask.sum() * hits / (last + 1)).sum())
