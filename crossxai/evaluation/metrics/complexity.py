"""How concentrated or smooth a map is; no forward pass. A simple map is easier to read, not more faithful.

Artefacts that a reader sees in maps at a glance, as numbers: relevance along the image's edge, and a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Needs, Range, Reduction, Scores
from crossxai.errors import Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.parameters import Parameters
from crossxai.model import Array, Modality
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
class MapOnly(Parameters):
    """A number that a map alone gives.

    Parameters
    ----------
    reduction : str
        How channels become one relevance per pixel, of which the absolute value counts.
    modality : str
        The one measured, "" for the only free one.

    Notes
    -----
    A map that is zero everywhere, or not finite, has no value: NaN. extras["degenerate"] is 1 for those and for constant maps.
    """

    reduction: Reduction = "sum"
    modality: str = ""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "nothing"
    axis: ClassVar[Axis] = "complexity"
    invariant_to: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        self._one_of("reduction", get_args(Reduction))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Scores (n,); no forward pass."""
        modality = ranks.modality_of(question, self.modality, self.name)
        relevance = ranks.units(question, attribution, modality, self.reduction)
        extras: dict[str, Array] = {"degenerate": ranks.degenerate(relevance)}
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
        modality = ranks.modality_of(question, self.modality, self.name)
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
    largest = np.where(ranks.usable(relevance), np.abs(np.where(np.isfinite(flat), flat, 0)).max(axis=1), 0)
    result = np.full(flat.shape, np.nan)
    good = largest > 0
    result[good] = flat[good] / largest[good, None]
    return result


def _shares(relevance: Array) -> Numbers:
    """|relevance| as shares that sum to 1, flat (n, m); NaN for a map that is zero or not finite."""
    sizes = np.abs(scaled(relevance))
    return np.asarray(sizes / sizes.sum(axis=1, keepdims=True))


def border(height: int, width: int, rim: int) -> npt.NDArray[np.bool_]:
    """A (height, width) mask of the pixels less than `rim` from an edge."""
    mask = np.ones((height, width), dtype=bool)
    mask[rim : height - rim, rim : width - rim] = False
    return mask


def border_share(relevance: Array, rim: int) -> Numbers:
    """Share of |relevance| (n, y, x) less than `rim` pixels from the image's edge, (n,) in [0, 1].

    A map that says nothing of places gets the rim's share of the area, 1 − (y − 2 rim)(x − 2 rim) / (y x). NaN for a map
    that is zero or not finite.
    """
    flat = np.abs(scaled(relevance))
    inside = border(relevance.shape[1], relevance.shape[2], rim).reshape(-1)
    return np.asarray(flat[:, inside].sum(axis=1) / flat.sum(axis=1))


def grid_energy(relevance: Array, period: int) -> Numbers:
    """How much of relevance (n, y, x) repeats with a period in pixels along both axes, (n,): 1 a perfect grid, about 0 noise,
    smooth maps, spots and edges.

    The share of a picture's variance that its mean tile of period × period pixels has, which by Parseval is the share of its
    spectrum at the multiples of 1 / period (the peaks of Wang, Bovik and Evans 2000, who look for them in the absolute
    differences of an image that was coded in blocks). What does not repeat has one part in T of its variance there, T being
    the number of tiles: r becomes (r − 1 / T) / (1 − 1 / T), and no less than 0.
    The picture with the largest share counts, of three: the map; its absolute value, where uneven overlap of strided
    convolutions shows (Odena, Dumoulin and Olah 2016); and the root of its absolute second differences along both axes, where
    the lines show between the blocks, and the kinks in the slopes, of a coarse map that was enlarged.
    NaN for a map that is zero or not finite. A grid of few tiles is weak evidence: one edge has up to 1 / 4 in 3 × 3 of them.
    """
    maps = scaled(relevance).reshape(relevance.shape)
    bent = np.zeros_like(maps)
    bent[:, 1:-1] += np.abs(np.diff(maps, 2, axis=1))
    bent[:, :, 1:-1] += np.abs(np.diff(maps, 2, axis=2))
    shares = [_repeated(picture, period) for picture in (maps, np.abs(maps), np.sqrt(bent))]
    return np.asarray(np.max(shares, axis=0))


def _repeated(pictures: Numbers, period: int) -> Numbers:
    """The share of variance in the mean tile, less what chance gives it, of whole tiles of pictures (n, y, x)."""
    n, rows, columns = len(pictures), pictures.shape[1] // period, pictures.shape[2] // period
    tiles = pictures[:, : rows * period, : columns * period].reshape(n, rows, period, columns, period)
    whole = tiles.reshape(n, -1).var(axis=1)
    mean = tiles.mean(axis=(1, 3)).reshape(n, -1).var(axis=1)
    varied = whole > 1e-12  # of a constant picture, rounding alone is left
    share = np.where(varied, mean / np.where(varied, whole, 1), 0)
    chance = 1 / (rows * columns)
    return np.where(np.isnan(whole), np.nan, np.maximum((share - chance) / (1 - chance), 0))


@dataclass(frozen=True, kw_only=True)
class BorderShare(MapOnly):
    """Share of the absolute relevance within `width` pixels of the image's edge; lower is better.

    Parameters
    ----------
    width : int
        Of the rim, in pixels.

    Notes
    -----
    extras["border_area"] is the rim's share of the area, which a map that prefers no place gets. Padding, and the edge
    of an up-sampled map, draw relevance there; so may evidence that lies there.
    """

    width: int = 4

    name: ClassVar[str] = "border_share"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("width")

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        height, width = _image(question, self.modality, self.name)
        if min(height, width) <= 2 * self.width:
            raise Unsupported(
                f"border_share: a rim of {self.width} pixels leaves no inside of a {height} × {width} image: write a "
                "smaller width"
            )
        scores = super().__call__(question, attribution)
        area = np.full(len(scores.value), border(height, width, self.width).mean())
        params = {**scores.params, "width": self.width}
        return replace(scores, extras={**scores.extras, "border_area": area}, params=params)

    def _value(self, relevance: Array) -> Numbers:
        return border_share(relevance, self.width)


@dataclass(frozen=True, kw_only=True)
class GridEnergy(MapOnly):
    """Share of a map's variation that repeats with a period in pixels, beyond chance: checkerboards, blocks; lower is better.

    Parameters
    ----------
    period : int
        Of the grid, in pixels, 2 or more: the stride of the layer whose map was enlarged (32 for the last one of a ResNet-18),
        or of the convolutions that a gradient went through (2, 4, 8 …). See `grid_energy`.
    """

    period: int = 8

    name: ClassVar[str] = "grid_energy"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours; spectral peaks as in Wang, Bovik and Evans 2000"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("period", 2)

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        height, width = _image(question, self.modality, self.name)
        if min(height, width) < 2 * self.period:
            raise Unsupported(
                f"grid_energy: nothing repeats in a {height} × {width} image with a period of {self.period} pixels: write one "
                "of at most half its side"
            )
        scores = super().__call__(question, attribution)
        return replace(scores, params={**scores.params, "period": self.period})

    def _value(self, relevance: Array) -> Numbers:
        return grid_energy(relevance, self.period)


def _image(question: Question, name: str, metric: str) -> tuple[int, int]:
    """Height and width of the images that are measured."""
    modality: Modality = ranks.modality_of(question, name, metric)
    if modality.axes[:-1] != ("y", "x"):
        raise Unsupported(f"{metric} needs an image with axes y, x, channel; {modality.name!r} has {modality.axes}")
    height, width = ranks.space_of(question, modality)
    return height, width
