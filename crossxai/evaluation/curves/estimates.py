"""The mean area under many curves from a few points of each: unbiased, with the error that leaving out points makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from crossxai.attribution import Scores
from crossxai.errors import InvalidInput
from crossxai.model import Array

Numbers = npt.NDArray[np.float64]
Points = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Design:
    """How inner points of curves over the same fractions (K + 1,), 0 to 1, are drawn and added up; m: points per offset.

    m inner points at equal distances in the trapezoid's cumulated weights w, behind one random offset (systematic sampling, Madow
    1949), are each taken with probability m w_k / W, so that, counting W / m each, they add up to the area on average. The line
    between the ends is taken out first: of what remains, equal distances miss least (by m^-2 if smooth, where one draw per
    stratum misses by m^-1.5). Two or more offsets per curve, drawn apart, show the error by their spread.
    """

    fractions: Numbers
    m: int

    @cached_property
    def weights(self) -> Numbers:
        """The trapezoid's weights of the inner points (K - 1,)."""
        return np.asarray((self.fractions[2:] - self.fractions[:-2]) / 2)

    @cached_property
    def cumulated(self) -> Numbers:
        """Running sum of the weights (K - 1,); its last entry is the weight of all inner points."""
        return np.cumsum(self.weights)

    def draw(self, offsets: Numbers, factor: int = 1) -> Points:
        """Numbers of inner points (..., m · factor), 1 … K - 1, for offsets (...) in [0, 1); those of factor 1 among them."""
        m = self.m * factor
        places = ((offsets * factor % 1)[..., None] + np.arange(m)) / m * self.cumulated[-1]
        return np.asarray(np.minimum(np.searchsorted(self.cumulated, places, side="right"), len(self.weights) - 1) + 1)

    def areas(self, ends: Numbers, points: Points, scores: Numbers) -> Numbers:
        """Unbiased areas (...) from the scores at both ends (..., 2) and the scores (..., any) at drawn points."""
        start, end = ends[..., :1], ends[..., 1:]
        line = start + (end - start) * self.fractions[points]
        return np.asarray(ends.mean(axis=-1) + self.cumulated[-1] * (scores - line).mean(axis=-1))


@dataclass(frozen=True)
class Mean:
    """The mean of the areas of n curves, and how far the points left out may have moved it.

    values (n,): each curve's own estimate; variances (n,): of it, from its replicates; low, high: t interval of these curves.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    values: Numbers = field(repr=False)
    variances: Numbers = field(repr=False)


def mean_of(replicates: Numbers, confidence: float = 0.95) -> Mean:
    """The mean over curves from independent unbiased areas (n, replicates), two or more per row, NaN where there are fewer."""
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie between 0 and 1, got {confidence}")
    held = ~np.isnan(replicates)
    counts = held.sum(axis=1)
    kept = counts > 0
    values, variances = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    filled = np.where(held, replicates, 0.0)
    values[kept] = filled[kept].sum(axis=1) / counts[kept]
    squares = np.where(held, (filled - np.where(kept, values, 0.0)[:, None]) ** 2, 0.0).sum(axis=1)
    free = np.maximum(counts - 1, 1)
    variances[kept] = (squares / free / np.maximum(counts, 1))[kept]
    n = int(kept.sum())
    if n == 0:
        nan = float("nan")
        return Mean(nan, nan, nan, nan, values, variances)
    mean, error = float(values[kept].mean()), float(np.sqrt(variances[kept].sum()) / n)
    half = error * t_quantile(variances[kept], free[kept], confidence)
    return Mean(mean, error, mean - half, mean + half, values, variances)


def t_quantile(variances: Numbers, free: npt.NDArray[np.intp], confidence: float) -> float:
    """How many standard errors reach to either side, for a sum of terms with estimated variances (n,) of `free` degrees each."""
    if variances.max() == 0:
        return 0.0
    return float(stats.t.ppf((1 + confidence) / 2, freedom_of(variances, free)))


def freedom_of(variances: Numbers, free: npt.NDArray[np.intp]) -> float:
    """Degrees of freedom of a sum of estimated variances (n,), not all 0: Satterthwaite 1946, Lipsitz, Parzen and Zhao 2002."""
    scaled = variances / variances.max()
    return max(float(scaled.sum() ** 2 / (scaled**2 / (free + 2)).sum() - 2), 1.0)


def factor_needed(pilot: Numbers, n: int, half_width: float, confidence: float = 0.95) -> float:
    """By how much to multiply the points behind areas `pilot` (curves, 2), so that a mean of n curves has that half-width."""
    single = pilot.var(axis=1, ddof=1)
    if single.max() == 0:
        return 1.0
    free = np.ones(len(single), dtype=np.intp)
    reach, freedom = t_quantile(single, free, confidence), freedom_of(single, free)
    # Its upper end (80 %), so that the width is mostly reached. It is taken to fall with the square of the points: it falls with
    # their fourth power where curves are smooth, with their first where they are noise.
    variance = single.mean() * freedom / stats.chi2.ppf(0.2, freedom)
    return float(np.sqrt(variance / (2 * n)) * reach / half_width)


@dataclass(frozen=True)
class Estimate(Mean):
    """The mean area of one attribution and metric over n samples; n_missing have a map, or a score, that is not finite.

    Its interval holds the error of leaving out points, not that of having few samples: for that, give `values` (n,), unbiased, to
    `statistics.summarise` or `statistics.compare`. points (n,): masked images used; `passes` is their sum, shared or not. whole
    (n,): the full curve was scored. reached: the interval is as narrow as requested. replicates (n, 2): what `values` are of.
    """

    explainer: str
    metric: str
    higher_is_better: bool
    n: int
    n_missing: int
    passes: int
    full_passes: int
    reached: bool
    points: npt.NDArray[np.intp] = field(repr=False)
    whole: npt.NDArray[np.bool_] = field(repr=False)
    replicates: Numbers = field(repr=False)
    extras: dict[str, Array] = field(repr=False)
    params: dict[str, Any] = field(repr=False)

    def scores(self) -> Scores:
        """Per-sample areas as a metric's scores, without a curve; extras: their variance and the masked images used."""
        extras = {**self.extras, "step_variance": self.variances, "points": self.points.astype(np.float64)}
        return Scores(self.metric, self.values, self.higher_is_better, extras=extras, params=self.params)


@dataclass(frozen=True)
class Estimates:
    """table[attribution][metric]; passes: forward passes really made for all of it; full_passes: of the full curves."""

    table: tuple[tuple[Estimate, ...], ...]
    passes: int
    full_passes: int


def difference(one: Estimate, other: Estimate, confidence: float = 0.95) -> tuple[float, float, float, float]:
    """Mean of `one` minus mean of `other`, its standard error, and its interval, over the samples that both have.

    For estimates of one call to `estimate`, whose shared offsets make this narrower than two separate intervals.
    """
    if one.values.shape != other.values.shape:
        raise InvalidInput(f"estimates of {len(one.values)} and {len(other.values)} samples have no paired difference")
    mean = mean_of(one.replicates - other.replicates, confidence)
    return mean.mean, mean.standard_error, mean.low, mean.high
