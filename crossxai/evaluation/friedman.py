"""Several explainers on the same samples: Friedman's test on ranks, and which pairs Nemenyi's critical difference tells apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from crossxai.errors import InvalidInput
from crossxai.evaluation.statistics import table

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of k explainers on n samples, and the comparison of each pair behind it.

    ranks (k,): mean rank of each, 1 is best, ties share theirs. statistic, p: chi-square with k - 1 degrees of freedom,
    corrected for ties. statistic_f, p_f: Iman and Davenport's F form, less cautious for few samples. critical_difference: mean
    ranks further apart than this differ at level `alpha`, all pairs taken together. p_pairs (k, k): Nemenyi's p of each
    pair, 1 on the diagonal. n_missing samples had a NaN and were left out.
    """

    ranks: Numbers
    statistic: float
    p: float
    statistic_f: float
    p_f: float
    critical_difference: float
    p_pairs: Numbers
    alpha: float
    n: int
    n_missing: int

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Largest sets of explainers whose mean ranks all lie within the critical difference, best first: the bars of a
        critical-difference diagram. Explainers are numbered as given."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = self.ranks[order]
        found: list[tuple[int, ...]] = []
        reach = -1
        for start in range(len(order)):
            end = int(np.searchsorted(ranks, ranks[start] + self.critical_difference, side="right"))
            if end > reach and np.isfinite(self.critical_difference):
                found.append(tuple(order[start:end].tolist()))
                reach = end
        return tuple(found)


def friedman(scores: npt.ArrayLike, higher_is_better: bool, *, alpha: float = 0.05) -> Friedman:
    """Compare k explainers by their scores (n, k) on the same n samples; samples with a NaN are left out.

    Friedman 1937 with the correction for ties; Iman and Davenport 1980 for the F form; Nemenyi 1963 as in Demšar 2006 (JMLR 7,
    1-30), equations 3.2: CD = q sqrt(k (k + 1) / 6n), q the studentised range over sqrt(2). No complete sample: NaN all
    over; if every sample ties all explainers, p = 1.
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must lie between 0 and 1, got {alpha}")
    given, kept = table(scores)
    n, k = kept.shape
    if n == 0:
        nan = float("nan")
        return Friedman(np.full(k, nan), nan, nan, nan, nan, nan, np.full((k, k), nan), alpha, 0, len(given))
    # Scores that are equal on paper differ in rounding: they tie.
    tidy = np.round(kept / (np.abs(kept).max() or 1.0), 12)
    ranked = stats.rankdata(-tidy if higher_is_better else tidy, axis=1)
    ranks = ranked.mean(axis=0)
    # The spread of the ranks themselves instead of k (k + 1) / 12 is the correction for ties.
    spread = ((ranked - (k + 1) / 2) ** 2).sum() / (n * (k - 1))
    statistic = float(n * ((ranks - (k + 1) / 2) ** 2).sum() / spread) if spread > 0 else 0.0
    p = float(stats.chi2.sf(statistic, k - 1))
    statistic_f, p_f = _iman_davenport(statistic, n, k)
    scale = np.sqrt(k * (k + 1) / (12 * n))
    critical = float(stats.studentized_range.ppf(1 - alpha, k, np.inf) * scale)
    pairs = np.ones((k, k))
    for i in range(k):
        for j in range(i):
            # scipy integrates numerically, and can end a hair outside [0, 1].
            far = stats.studentized_range.sf(abs(ranks[i] - ranks[j]) / scale, k, np.inf)
            pairs[i, j] = pairs[j, i] = min(max(float(far), 0.0), 1.0)
    return Friedman(ranks, statistic, p, statistic_f, p_f, critical, pairs, alpha, n, len(given) - n)


def _iman_davenport(statistic: float, n: int, k: int) -> tuple[float, float]:
    """F form and its p; one sample leaves no degrees of freedom: NaN."""
    if n == 1:
        return float("nan"), float("nan")
    left = n * (k - 1) - statistic
    if left <= 1e-12 * n * k:  # every sample ranks alike
        return float("inf"), 0.0
    f = (n - 1) * statistic / left
    return float(f), float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
