"""How well a map's order or values separate a mask from the rest: rank accuracy, top-k, average precision, IoU and Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from crossxai.attribution import Scores
from crossxai.evaluation.metrics.families import Numbers
from crossxai.evaluation.metrics.localisation import Masked, Masks, defined, flattened
from crossxai.evaluation.metrics.similarity import places
from crossxai.evaluation.parameters import Count, ShareOrAll
from crossxai.model import Array, Modality
from crossxai.question import Question


@dataclass(frozen=True, eq=False)
class _Ordered(Masked):
    """A metric of the order of the units. NaN where the mask is empty or the map is not finite."""

    invariant_to: ClassVar[str] = "order"
    area_as: ClassVar[str] = "chance"

    def measure(self, relevance: Array, masks: Masks) -> Numbers:
        flat, inside = flattened(relevance, masks)
        good = defined(flat, inside).tolist()
        rows = zip(flat, inside, good, strict=True)
        return np.array([float(self._each(row, mask)) if ok else np.nan for row, mask, ok in rows])

    def _each(self, row: Numbers, mask: Masks) -> float:
        """The value of one map (units,) and mask (units,)."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RelevanceRank(_Ordered):
    """Share of the most relevant units, as many as the mask has, that lie inside it; higher is better.

    Notes
    -----
    Relevance Rank Accuracy. Units that tie at the last place share the places left.
    """

    name: ClassVar[str] = "relevance_rank"
    source: ClassVar[str] = "Arras et al. 2022"

    def _each(self, row: Numbers, mask: Masks) -> float:
        size = int(mask.sum())
        return _hits(row, mask, size) / size


@dataclass(frozen=True, eq=False)
class TopK(_Ordered):
    """Share of the most relevant units, a fixed share of all, that lie inside the mask; higher is better.

    Parameters
    ----------
    share : float, of all units, in (0, 1], rounded up; units that tie at the last place share the places left
    of : {"attainable", "k"}
        "attainable", of as many hits as there can be, so that a perfect map gets 1; "k", of all that are taken, as published,
        where a perfect map of a mask of 1 % of the image gets 0.1.

    Notes
    -----
    extras["chance"] is what a map of random order gets.
    """

    share: ShareOrAll = 0.1
    of: Literal["attainable", "k"] = "attainable"

    name: ClassVar[str] = "top_k_intersection"
    source: ClassVar[str] = "Theiner et al. 2022"

    def _each(self, row: Numbers, mask: Masks) -> float:
        k = self._count(row.size)
        return _hits(row, mask, k) / (k if self.of == "k" else min(k, int(mask.sum())))

    def _measured(self, relevance: Array, masks: Masks) -> Scores:
        scores = super()._measured(relevance, masks)
        sizes = masks.reshape(len(masks), -1).sum(axis=1)
        units = masks[0].size
        k = self._count(units)
        chance = sizes / units if self.of == "k" else k * sizes / units / np.maximum(np.minimum(k, sizes), 1)
        return replace(scores, extras={"chance": chance})

    def _count(self, units: int) -> int:
        return math.ceil(self.share * units - 1e-9)  # 0.07 · 100 is 7.000000000000001


@dataclass(frozen=True, eq=False)
class AveragePrecision(_Ordered):
    """Area under the precision-recall curve of units ranked by relevance, mask against rest; higher is better.

    Notes
    -----
    Σ (R_j - R_{j-1}) P_j over distinct values: tied units come in together, so no order among them is assumed, and a constant map
    has the mask's share of the area.
    """

    name: ClassVar[str] = "auprc"
    source: ClassVar[str] = "Davis and Goadrich 2006"

    def _each(self, row: Numbers, mask: Masks) -> float:
        order = np.argsort(-row, kind="stable")
        ordered = row[order]
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(row) - 1)  # of each run of equal values
        hits = np.cumsum(mask[order])[last]
        return float((np.diff(hits, prepend=0) / mask.sum() * hits / (last + 1)).sum())


@dataclass(frozen=True, eq=False)
class _Swept(Masked):
    """An overlap of the mask and the units above a threshold, over swept thresholds.

    Parameters
    ----------
    steps : int, how many thresholds; the scores' curve runs over them
    by : {"mask", "share", "value"}
        By "mask", as many of the most relevant units as the mask has, times thresholds up to 2, 1 among them: a perfect map
        gets 1. By "share", the ceil(threshold · units) most relevant units: a perfect map gets 1 only if the mask is one of
        the `steps` shares of the image (of 20, one of 1 % cannot be met, and its best Dice is 0.33). By "value", units whose
        value, put to [0, 1] by the map's smallest and largest, is at least 1 - threshold (Choe et al. 2020). By "share" and
        "value", thresholds go up to 1, where curves end with the mask's share of the area for any map.
    take : {"best", "mean"}, the "best" threshold of each sample, which flatters, or the "mean" over all

    Notes
    -----
    Units that tie at the edge count by fractions, except by value, where a constant map has no values between: NaN.
    extras hold both "best" and "mean", and the share of the units (or the value) at which the best is reached.
    """

    steps: Count = 20
    by: Literal["mask", "share", "value"] = "mask"
    take: Literal["best", "mean"] = "best"

    invariant_to: ClassVar[str] = "order"
    curve_over: ClassVar[str] = "threshold"
    area_as: ClassVar[str] = "mask_area"

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        return super()._params(question, modality) | {"curve_over": self.curve_over}

    def _measured(self, relevance: Array, masks: Masks) -> Scores:
        most = math.ceil(self.steps / 2) if self.by == "mask" else self.steps
        fractions = np.asarray(np.arange(1, self.steps + 1) / most)
        curve = self._curve(*flattened(relevance, masks), fractions)
        known = np.asarray(np.isfinite(curve).all(axis=1))
        best = fractions[np.where(known[:, None], curve, 0).argmax(axis=1)]
        if self.by == "mask":
            sizes = masks.reshape(len(masks), -1).sum(axis=1)
            best = np.minimum(np.ceil(best * sizes - 1e-9) / masks[0].size, 1)
        where = np.where(known, best, np.nan)
        extras = {"best": curve.max(axis=1), "mean": curve.mean(axis=1), "best_threshold": where}
        return self.scores(extras[self.take], curve, fractions, **extras)

    def _curve(self, flat: Numbers, inside: Masks, thresholds: Numbers) -> Numbers:
        """Overlaps (n, steps) of maps (n, units) and masks (n, units)."""
        curve = np.full((len(flat), len(thresholds)), np.nan)
        for i in np.flatnonzero(defined(flat, inside)).tolist():
            mask, row = float(inside[i].sum()), flat[i]
            if self.by != "value":
                counts = np.ceil(thresholds * (mask if self.by == "mask" else row.size) - 1e-9)
                taken = np.minimum(counts, row.size)
                common = np.array([_hits(row, inside[i], int(k)) for k in taken])
            elif (low := row.min()) < (high := row.max()):
                unit = (row / 2 - low / 2) / (high / 2 - low / 2)  # halves, so that huge ranges stay finite
                taken, common = (
                    len(values) - np.searchsorted(np.sort(values), 1 - thresholds, side="left").astype(np.float64)
                    for values in (unit, unit[inside[i]])
                )
            else:
                continue
            curve[i] = self._overlap(common, taken, mask)
        return curve

    def _overlap(self, common: Numbers, taken: Numbers, mask: float) -> Numbers:
        """The number from how many units are in common, are taken, and are the mask's."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class MaskIoU(_Swept):
    """Intersection over union of the mask and the most relevant units, over swept thresholds; higher is better."""

    name: ClassVar[str] = "mask_iou"
    source: ClassVar[str] = "Choe et al. 2020"

    def _overlap(self, common: Numbers, taken: Numbers, mask: float) -> Numbers:
        return common / (taken + mask - common)


@dataclass(frozen=True, eq=False)
class MaskDice(_Swept):
    """Dice coefficient of the mask and the most relevant units, over swept thresholds; higher is better."""

    name: ClassVar[str] = "mask_dice"
    source: ClassVar[str] = "Dice 1945; thresholds as in Choe et al. 2020"

    def _overlap(self, common: Numbers, taken: Numbers, mask: float) -> Numbers:
        return 2 * common / (taken + mask)


def _hits(row: Numbers, mask: Masks, k: int) -> float:
    """How many of the k most relevant units are inside the mask, ties by fractions."""
    # Fractions of ties add up to whole hits, but for rounding.
    return round(float(places(row[None], k)[0][mask].sum()), 9)
