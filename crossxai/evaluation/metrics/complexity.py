"""How concentrated or smooth a map is, which makes it easier to read, not more faithful; artefacts: the edge, a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Range, Scores
from crossxai.errors import Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics.families import MapMetric, Numbers
from crossxai.evaluation.parameters import Count, FromTwo
from crossxai.model import Array, Modality
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class MapOnly(MapMetric):
    """A number that a map alone gives, whose absolute values count.

    Notes
    -----
    A map that is zero everywhere, or not finite, has no value: NaN. extras["degenerate"] is 1 for those and for constant maps.
    """

    higher_is_better: ClassVar[bool] = False
    axis: ClassVar[Axis] = "complexity"

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Scores (n,); no forward pass."""
        modality = self.modality_of(question)
        self._require(question, modality)
        relevance = self.units_of(question, attribution, modality)
        extras = {"degenerate": ranks.degenerate(relevance), **self._extras(relevance)}
        return replace(self.scores(self.measure(relevance), **extras), params=self._params(question, modality))

    def measure(self, relevance: Array) -> Numbers:
        """The number (n,) of maps (n, *space)."""
        raise NotImplementedError

    def _require(self, question: Question, modality: Modality) -> None:
        """Raise `Unsupported` for a modality whose maps have no such number."""

    def _extras(self, relevance: Array) -> dict[str, Array]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Sparseness(MapOnly):
    """Gini index of the absolute relevance: how much of it few units hold; higher is better.

    Notes
    -----
    Σ (2i - m - 1) a_i / (m Σ a_i) over the m units in rising order (Hurley and Rickard 2009): 0 where all units have the same,
    near 1 where one has everything.
    """

    name: ClassVar[str] = "sparseness"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "Chalasani et al. 2020"

    def measure(self, relevance: Array) -> Numbers:
        shares = np.sort(_shares(relevance), axis=1)
        m = shares.shape[1]
        return np.asarray(((2 * np.arange(1, m + 1) - m - 1) * shares).sum(axis=1) / m)


@dataclass(frozen=True, kw_only=True)
class Entropy(MapOnly):
    """Entropy of the shares of absolute relevance, in nats, up to the logarithm of the number of units; lower is better."""

    name: ClassVar[str] = "entropy"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Bhatt et al. 2020"

    def measure(self, relevance: Array) -> Numbers:
        shares = _shares(relevance)
        return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class EffectiveArea(MapOnly):
    """Share of the units that hold the absolute relevance, by their participation ratio; lower is better.

    Notes
    -----
    (Σ |a|)² / (m Σ a²): the share of the m units that equal ones would need to be as spread out, from 1 / m to 1.
    """

    name: ClassVar[str] = "effective_area"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours; participation ratio, Bell and Dean 1970"

    def measure(self, relevance: Array) -> Numbers:
        shares = _shares(relevance)
        return np.asarray(1 / (shares.shape[1] * (shares**2).sum(axis=1)))


@dataclass(frozen=True, kw_only=True)
class TotalVariation(MapOnly):
    """Differences between neighbouring units over the absolute relevance, for maps with space; lower is better.

    Notes
    -----
    Σ |a_i - a_j| over neighbours along each axis, over Σ |a|: 0 is flat, two per axis (4 for an image) the roughest.
    """

    name: ClassVar[str] = "total_variation"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Rudin et al. 1992"

    def measure(self, relevance: Array) -> Numbers:
        flat = scaled(relevance)
        total = np.abs(flat).sum(axis=1)
        maps = flat.reshape(relevance.shape)
        steps = np.zeros(len(maps))
        for axis in range(1, maps.ndim):
            steps += np.abs(np.diff(maps, axis=axis)).reshape(len(maps), -1).sum(axis=1)
        return np.asarray(steps / total)

    def _require(self, question: Question, modality: Modality) -> None:
        if not modality.spatial:
            raise Unsupported(
                f"{self.name} needs neighbours; {modality.name!r} is a table, whose columns have no order"
            )


@dataclass(frozen=True, kw_only=True)
class BorderShare(MapOnly):
    """Share of the absolute relevance within `width` pixels of the image's edge; lower is better.

    Parameters
    ----------
    width : int, of the rim, in pixels

    Notes
    -----
    extras["border_area"] is the rim's share of the area, which a map that prefers no place gets. Padding, and the edge
    of an up-sampled map, draw relevance there; so may evidence that lies there.
    """

    width: Count = 4

    name: ClassVar[str] = "border_share"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours"

    def measure(self, relevance: Array) -> Numbers:
        flat = np.abs(scaled(relevance))
        inside = border(relevance.shape[1:], self.width).reshape(-1)
        return np.asarray(flat[:, inside].sum(axis=1) / flat.sum(axis=1))

    def _require(self, question: Question, modality: Modality) -> None:
        space = self.space_of(question, modality)
        if min(space) <= 2 * self.width:
            sizes = " × ".join(map(str, space))
            raise Unsupported(
                f"border_share: a rim of {self.width} pixels leaves no inside of {sizes}: write a smaller width"
            )

    def _extras(self, relevance: Array) -> dict[str, Array]:
        inside = border(relevance.shape[1:], self.width)
        return {"border_area": np.full(len(relevance), inside.mean())}


@dataclass(frozen=True, kw_only=True)
class GridEnergy(MapOnly):
    """Share of a map's variation that repeats with a period in pixels, beyond chance: checkerboards, blocks; lower is better.

    Parameters
    ----------
    period : int
        Of the grid, in pixels, 2 or more: the stride of the layer whose map was enlarged (32 for the last one of a ResNet-18),
        or of the convolutions that a gradient went through (2, 4, 8 …).

    Notes
    -----
    1 is a perfect grid, about 0 noise, smooth maps, spots and edges. The share of a picture's variance that its mean tile of
    period × period pixels has is, by Parseval, the share of its spectrum at the multiples of 1 / period (the peaks of Wang,
    Bovik and Evans 2000, in the absolute differences of an image that was coded in blocks). What does not repeat has one part
    in T of its variance there, T the number of tiles: r becomes (r − 1 / T) / (1 − 1 / T), and no less than 0.
    The picture with the largest share counts, of three: the map; its absolute value, where uneven overlap of strided
    convolutions shows (Odena, Dumoulin and Olah 2016); and the root of its absolute second differences along both axes, where
    the lines show between the blocks, and the kinks in the slopes, of a coarse map that was enlarged.
    A grid of few tiles is weak evidence: one edge has up to 1 / 4 in 3 × 3 of them.
    """

    period: FromTwo = 8

    name: ClassVar[str] = "grid_energy"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours; spectral peaks as in Wang, Bovik and Evans 2000"

    def measure(self, relevance: Array) -> Numbers:
        maps = scaled(relevance).reshape(relevance.shape)
        bent = np.zeros_like(maps)
        bent[:, 1:-1] += np.abs(np.diff(maps, 2, axis=1))
        bent[:, :, 1:-1] += np.abs(np.diff(maps, 2, axis=2))
        return np.asarray(np.max([self._repeated(picture) for picture in (maps, np.abs(maps), np.sqrt(bent))], axis=0))

    def _require(self, question: Question, modality: Modality) -> None:
        height, width = self.image_of(question, modality)
        if min(height, width) < 2 * self.period:
            raise Unsupported(
                f"grid_energy: nothing repeats in a {height} × {width} image with a period of {self.period} pixels: write one "
                "of at most half its side"
            )

    def _repeated(self, pictures: Numbers) -> Numbers:
        """The share of variance in the mean tile, less what chance gives it, of whole tiles of pictures (n, y, x)."""
        period = self.period
        n, rows, columns = len(pictures), pictures.shape[1] // period, pictures.shape[2] // period
        tiles = pictures[:, : rows * period, : columns * period].reshape(n, rows, period, columns, period)
        whole = tiles.reshape(n, -1).var(axis=1)
        mean = tiles.mean(axis=(1, 3)).reshape(n, -1).var(axis=1)
        varied = whole > 1e-12  # of a constant picture, rounding alone is left
        share = np.where(varied, mean / np.where(varied, whole, 1), 0)
        chance = 1 / (rows * columns)
        return np.where(np.isnan(whole), np.nan, np.maximum((share - chance) / (1 - chance), 0))


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


def border(space: tuple[int, ...], rim: int) -> npt.NDArray[np.bool_]:
    """A mask (*space) of the pixels less than `rim` from an edge."""
    mask = np.ones(space, dtype=bool)
    mask[tuple(slice(rim, length - rim) for length in space)] = False
    return mask
