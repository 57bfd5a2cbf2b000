"""How often two conventions rank the same explainers differently: ranks, Kendall's tau, and the pairs that change places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from crossxai.errors import InvalidInput

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Flips:
    """tau: Kendall's tau-b of two rankings, NaN where one ranks nothing. flipped of `pairs` pairs of explainers stand in opposite
    orders; a pair that either ranking ties is not flipped. share: flipped / pairs."""

    tau: float
    flipped: int
    pairs: int

    @property
    def share(self) -> float:
        return self.flipped / self.pairs if self.pairs else float("nan")


def ranks(means: npt.ArrayLike, higher_is_better: bool) -> Numbers:
    """Rank of each explainer (k,), the best being 1, ties sharing their mean rank, NaN staying NaN."""
    values = np.asarray(means, dtype=np.float64)
    result, known = np.full(values.shape, np.nan), ~np.isnan(values)
    result[known] = rankdata(-values[known] if higher_is_better else values[known])
    return result


def flips(a: npt.ArrayLike, b: npt.ArrayLike) -> Flips:
    """Compare two rankings (k,) of the same explainers (see `ranks`); those that either does not rank are left out."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise InvalidInput(f"rankings of the same explainers are needed, got shapes {first.shape} and {second.shape}")
    both = ~(np.isnan(first) | np.isnan(second))
    first, second = first[both], second[both]
    i, j = np.triu_indices(len(first), 1)
    flipped = int((np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) < 0).sum())
    ranked = len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    return Flips(float(kendalltau(first, second).statistic) if ranked else float("nan"), flipped, len(i))
