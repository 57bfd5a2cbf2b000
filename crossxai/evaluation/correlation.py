"""Correlation over random subsets: does the relevance that a subset holds tell how far the score falls without it?

Bhatt et al. 2020 (IJCAI; arXiv:2005.00631, definition 3), Ancona et al. 2018 (ICLR; arXiv:1711.06104, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from crossxai.evaluation import baselines, ranking
from crossxai.evaluation.removal import Removal
from crossxai.evaluation.unit_metric import Found, Numbers, Range, UnitMetric
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Subsets(UnitMetric):
    """subsets: how many are drawn (per size). fill: what replaces a removed unit, see `baselines`.

    A sample's subsets depend on its name and the seed alone, so all maps of it are judged by the same ones. NaN where either
    side does not vary: a constant map with subsets of one size, a score that no subset moves, a single unit.
    """

    subsets: int = 100
    fill: baselines.FillLike = "zero"

    invariant_to: ClassVar[str] = "scale"
    range: ClassVar[Range] = (-1.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("subsets", 2)
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def passes(self, question: Question) -> int:
        return 1 + self.subsets * self._groups(self._units(question)) if self._units(question) > 1 else 0

    def masks(self, question: Question, row: int) -> Masks:
        """The subsets of one sample, (subsets × sizes, units), true where units are removed."""
        modality = ranking.modality_of(question, self.modality, self.name)
        return self._draw(question.rng(row, self.seed), ranking.space_of(question, modality))

    def _groups(self, units: int) -> int:
        """How many sizes of subset there are, each with a correlation of its own."""
        return 1

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        raise NotImplementedError

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        removal = Removal(question, (modality,), (self.fill,))
        if removal.units == 1:
            return Found(np.full(len(rows), np.nan))
        groups = self._groups(removal.units)
        held: dict[int, Numbers] = {}

        def masks(row: int) -> Masks:
            drawn = self.masks(question, row)
            flat = relevance[row].reshape(-1).astype(np.float64)
            held[row] = np.array([flat[mask].sum() for mask in drawn])
            return np.concatenate([np.zeros((1, removal.units), dtype=bool), drawn])

        found = removal.scores(rows, [1 + self.subsets * groups] * len(rows), masks)
        value = np.full(len(rows), np.nan)
        for i, (row, scores) in enumerate(zip(rows.tolist(), found, strict=True)):
            drops, sums = (scores[0] - scores[1:]).reshape(groups, -1), held[row].reshape(groups, -1)
            each = [correlation(a, b, self.by_rank) for a, b in zip(sums, drops, strict=True)]
            value[i] = np.mean([c for c in each if not np.isnan(c)]) if not np.isnan(each).all() else np.nan
        return Found(value)


@dataclass(frozen=True, kw_only=True)
class FaithfulnessCorrelation(_Subsets):
    """Pearson correlation of removed relevance and drop of the score, over random subsets of one size; higher is better.

    share: of the units in each subset, at least one and not all.
    """

    share: float = 0.2

    name: ClassVar[str] = "faithfulness_correlation"
    source: ClassVar[str] = "Bhatt et al. 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("share")

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        units = int(np.prod(space))
        return of_size(rng, self.subsets, units, min(max(1, round(self.share * units)), units - 1))


@dataclass(frozen=True, kw_only=True)
class MuFidelity(_Subsets):
    """Spearman correlation of removed relevance and drop of the score, over random patterns of a grid; higher is better.

    The variant of Bhatt et al. 2020 that Xplique calls MuFidelity: each cell of a grid × grid pattern, stretched over the
    image, is removed with probability `share`; tables have a cell per column. A correlation that is not defined is NaN
    (Xplique: 0).
    """

    share: float = 0.2
    grid: int = 9

    name: ClassVar[str] = "mu_fidelity"
    source: ClassVar[str] = "Bhatt et al. 2020"
    by_rank: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("share")
        self._whole("grid")

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        if len(space) == 1:
            return np.asarray(rng.random((self.subsets, *space)) <= self.share)
        cells = rng.random((self.subsets, *[self.grid] * len(space))) <= self.share
        for axis, length in enumerate(space):  # nearest, pixel centres on pixel centres
            cells = np.take(cells, ((np.arange(length) + 0.5) * self.grid / length).astype(np.intp), axis + 1)
        return np.asarray(cells.reshape(self.subsets, -1))


@dataclass(frozen=True, kw_only=True)
class SensitivityN(_Subsets):
    """Pearson correlation of removed relevance and drop of the score, averaged over sizes of subset; higher is better.

    A map that meets sensitivity-n for all n, as every complete map of a linear model does, has 1. shares: the sizes n as
    shares of the units (1 to 80 % in the paper, which draws 100 subsets of each); a size that is undefined is left out.
    """

    shares: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 0.8)

    name: ClassVar[str] = "sensitivity_n"
    source: ClassVar[str] = "Ancona et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._list("shares", 1)

    def _groups(self, units: int) -> int:
        return len(self._sizes(units))

    def _sizes(self, units: int) -> list[int]:
        sizes = np.rint(np.array(self.shares) * units).astype(np.intp)
        return sorted(set(np.clip(sizes, 1, units - 1).tolist()))

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        units = int(np.prod(space))
        return np.concatenate([of_size(rng, self.subsets, units, size) for size in self._sizes(units)])


def of_size(rng: np.random.Generator, subsets: int, units: int, size: int) -> Masks:
    """Random masks (subsets, units) with exactly `size` units each."""
    masks = np.zeros((subsets, units), dtype=bool)
    for mask in masks:
        mask[rng.choice(units, size, replace=False, shuffle=False)] = True
    return masks


def correlation(a: Numbers, b: Numbers, by_rank: bool = False) -> float:
    """Pearson's r of two vectors, or Spearman's; NaN where one of them varies by no more than rounding."""
    for values in (a, b):
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            return float("nan")
    if by_rank:
        a, b = rankdata(a), rankdata(b)
    a, b = (v / np.abs(v).max() for v in (a - a.mean(), b - b.mean()))
    return float(np.clip((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), -1, 1))
