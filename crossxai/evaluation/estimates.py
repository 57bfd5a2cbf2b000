"""Estimated mean areas, with the error that leaving out points makes, and the difference of two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Scores
from crossxai.errors import InvalidInput
from crossxai.evaluation.sampling import mean_of
from crossxai.model import Array

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """The mean area of one attribution and metric over n samples; n_missing have a map, or a score, that is not finite.

    low, high: interval of the mean that the full curves of *these* samples would give: the error of leaving out points, not
    that of having few samples; for that, give `values` (n,), unbiased for each sample's own area, to `statistics.summarise`
    or `statistics.compare`. variances (n,): of `values`, 0 where the whole curve was scored. points (n,): masked images used,
    both ends included; `passes` is their sum, shared or not, `full_passes` what the full curves take. whole (n,): the full curve
    was scored. reached: whether the interval is as narrow as asked for. replicates (n, 2): independent estimates behind
    `values`. extras: tie rates and degenerate maps (n,).
    """

    explainer: str
    metric: str
    higher_is_better: bool
    mean: float
    standard_error: float
    low: float
    high: float
    n: int
    n_missing: int
    passes: int
    full_passes: int
    reached: bool
    values: Numbers = field(repr=False)
    variances: Numbers = field(repr=False)
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
    found = mean_of(one.replicates - other.replicates, confidence)
    return found.mean, found.standard_error, found.low, found.high
