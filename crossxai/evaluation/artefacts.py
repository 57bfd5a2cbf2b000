"""Artefacts that a reader sees in maps at a glance, as numbers: relevance along the image's edge, and a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Range, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation import ranking
from crossxai.evaluation.complexity import MapOnly, Numbers, scaled
from crossxai.model import Array, Modality
from crossxai.question import Question


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

    extras["border_area"] is the rim's share of the area, which a map that says nothing of places gets. Padding, and the edge
    of an up-sampled map, draw relevance there; so may evidence that lies there.
    """

    width: int = 4

    name: ClassVar[str] = "border_share"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width < 1:
            raise InvalidInput(f"border_share: width is a whole number of pixels from 1 on, got {self.width!r}")

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        height, width = _image(question, self.modality, self.name)
        if min(height, width) <= 2 * self.width:
            raise Unsupported(
                f"border_share: a rim of {self.width} pixels leaves no inside of a {height} × {width} image: write a "
                "smaller width"
            )
        found = super().__call__(question, attribution)
        area = np.full(len(found.value), border(height, width, self.width).mean())
        params = {**found.params, "width": self.width}
        return replace(found, extras={**found.extras, "border_area": area}, params=params)

    def _value(self, relevance: Array) -> Numbers:
        return border_share(relevance, self.width)


@dataclass(frozen=True, kw_only=True)
class GridEnergy(MapOnly):
    """Share of a map's variation that repeats with a period in pixels, beyond chance: checkerboards, blocks; lower is better.

    period: of the grid that is looked for: the stride of the layer whose map was enlarged (32 for the last one of a
    ResNet-18), or of the convolutions that a gradient went through (2, 4, 8 …). `grid_energy` says how it is measured.
    """

    period: int = 8

    name: ClassVar[str] = "grid_energy"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "ours; spectral peaks as in Wang, Bovik and Evans 2000"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.period, bool) or not isinstance(self.period, int) or self.period < 2:
            raise InvalidInput(f"grid_energy: period is a whole number of pixels from 2 on, got {self.period!r}")

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        height, width = _image(question, self.modality, self.name)
        if min(height, width) < 2 * self.period:
            raise Unsupported(
                f"grid_energy: nothing repeats in a {height} × {width} image with a period of {self.period} pixels: write one "
                "of at most half its side"
            )
        found = super().__call__(question, attribution)
        return replace(found, params={**found.params, "period": self.period})

    def _value(self, relevance: Array) -> Numbers:
        return grid_energy(relevance, self.period)


def _image(question: Question, name: str, metric: str) -> tuple[int, int]:
    """Height and width of the images that are judged."""
    modality: Modality = ranking.modality_of(question, name, metric)
    if modality.axes[:-1] != ("y", "x"):
        raise Unsupported(f"{metric} needs an image with axes y, x, channel; {modality.name!r} has {modality.axes}")
    height, width = ranking.space_of(question, modality)
    return height, width
