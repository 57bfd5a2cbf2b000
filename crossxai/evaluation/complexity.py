"""How concentrated or smooth a map is; no forward pass. A simple map is easier to read, not more faithful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Needs, Range, Reduction, Scores
from crossxai.errors import Unsupported
from crossxai.evaluation import ranking
from crossxai.evaluation.checks import reduces
from crossxai.model import Array
from crossxai.question import Question

Numbers = npt.NDArray[np.float64]


def gini(relevance: Array) -> Numbers:
    """Gini index of |relevance| (n, *space), (n,): 0 where all units have the same, near 1 where one has everything.

    Σ (2i - m - 1) a_i / (m Σ a_i) over the m units in rising order (Hurley and Rickard 2009; of maps, Chalasani et al. 2020,
    ICML). NaN for a zero map.
    """
    shares = np.sort(_shares(relevance), axis=1)
    m = shares.shape[1]
    return np.asarray(((2 * np.arange(1, m + 1) - m - 1) * shares).sum(axis=1) / m)


def entropy(relevance: Array) -> Numbers:
    """Entropy of the shares of |relevance| (n, *space) in nats, (n,), from 0 to log(units) (Bhatt et al. 2020, definition 4)."""
    shares = _shares(relevance)
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1))


def effective_area(relevance: Array) -> Numbers:
    """(Σ |a|)² / (m Σ a²) of relevance (n, *space), (n,): the share of units that m equal ones would need to be as spread
    out, from 1 / m (one unit) to 1 (all alike)."""
    shares = _shares(relevance)
    return np.asarray(1 / (shares.shape[1] * (shares**2).sum(axis=1)))


def total_variation(relevance: Array) -> Numbers:
    """Σ |a_i - a_j| over neighbours along each axis, over Σ |a|, of relevance (n, *space), (n,); 0 is flat, two per axis
    (4 for an image) the roughest."""
    flat = scaled(relevance)
    total = np.abs(flat).sum(axis=1)
    maps = flat.reshape(relevance.shape)
    steps = np.zeros(len(maps))
    for axis in range(1, maps.ndim):
        steps += np.abs(np.diff(maps, axis=axis)).reshape(len(maps), -1).sum(axis=1)
    return np.asarray(steps / total)


@dataclass(frozen=True, kw_only=True)
class MapOnly:
    """A number that a map alone gives. reduction: how channels become one relevance per pixel, of which the absolute value
    counts. modality: the one judged, "" for the only free one. A map that is zero everywhere, or not finite, has none: NaN.
    extras["degenerate"] is 1 for those and for constant maps."""

    reduction: Reduction = "sum"
    modality: str = ""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "nothing"
    axis: ClassVar[Axis] = "complexity"
    invariant_to: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        reduces(self.reduction, self.name)

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Scores (n,); no forward pass."""
        modality = ranking.modality_of(question, self.modality, self.name)
        relevance = ranking.units(question, attribution, modality, self.reduction)
        extras: dict[str, Array] = {"degenerate": ranking.degenerate(relevance)}
        params = {"reduction": self.reduction, "modality": modality.name}
        return Scores(self.name, self._value(relevance), self.higher_is_better, extras=extras, params=params)

    def passes(self, question: Question) -> int:
        """None: the map is enough."""
        return 0

    def _value(self, relevance: Array) -> Numbers:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Sparseness(MapOnly):
    """Gini index of the absolute relevance: how much of it few units hold; higher is better."""

    name: ClassVar[str] = "sparseness"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "Chalasani et al. 2020"

    def _value(self, relevance: Array) -> Numbers:
        return gini(relevance)


@dataclass(frozen=True, kw_only=True)
class Entropy(MapOnly):
    """Entropy of the shares of absolute relevance, in nats, up to the logarithm of the number of units; lower is better."""

    name: ClassVar[str] = "entropy"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Bhatt et al. 2020"

    def _value(self, relevance: Array) -> Numbers:
        return entropy(relevance)


@dataclass(frozen=True, kw_only=True)
class EffectiveArea(MapOnly):
    """Share of the units that hold the absolute relevance, by their participation ratio; lower is better."""

    name: ClassVar[str] = "effective_area"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours; participation ratio, Bell and Dean 1970"

    def _value(self, relevance: Array) -> Numbers:
        return effective_area(relevance)


@dataclass(frozen=True, kw_only=True)
class TotalVariation(MapOnly):
    """Differences between neighbouring units over the absolute relevance, for maps with space; lower is better."""

    name: ClassVar[str] = "total_variation"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Rudin et al. 1992"

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        modality = ranking.modality_of(question, self.modality, self.name)
        if not modality.spatial:
            raise Unsupported(
                f"{self.name} needs neighbours; {modality.name!r} is a table, whose columns have no order"
            )
        return super().__call__(question, attribution)

    def _value(self, relevance: Array) -> Numbers:
        return total_variation(relevance)


def scaled(relevance: Array) -> Numbers:
    """Flat maps (n, m) over their largest absolute value, so that no square or sum overflows; NaN if zero or not finite."""
    flat = relevance.reshape(len(relevance), -1).astype(np.float64)
    largest = np.where(ranking.usable(relevance), np.abs(np.where(np.isfinite(flat), flat, 0)).max(axis=1), 0)
    result = np.full(flat.shape, np.nan)
    good = largest > 0
    result[good] = flat[good] / largest[good, None]
    return result


def _shares(relevance: Array) -> Numbers:
    """|relevance| as shares that sum to 1, flat (n, m); NaN for a map that is zero or not finite."""
    sizes = np.abs(scaled(relevance))
    return np.asarray(sizes / sizes.sum(axis=1, keepdims=True))
