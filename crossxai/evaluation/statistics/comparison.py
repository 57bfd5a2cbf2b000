"""Paired comparison with a control over samples or groups of them, and Friedman's test of several explainers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from crossxai.errors import InvalidInput
from crossxai.evaluation.statistics.intervals import (
    KEPT,
    Groups,
    Labels,
    averages,
    chunked,
    count,
    grouped,
    interval,
    parted,
    totals,
    vector,
)

Numbers = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]

Test = Literal["sign_flip", "wilcoxon"]


@dataclass(frozen=True)
class Comparison:
    """Mean paired difference (values - control) over n pairs, its confidence interval, and the two-sided p-value.

    better: the difference is on the good side and p < 0.05, uncorrected; for many comparisons pass the p to `holm`.
    n_groups: how many groups the pairs belong to; 0 where every pair stands for itself.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    better: bool
    n_groups: int = 0


def compare(
    values: npt.ArrayLike,
    control: npt.ArrayLike,
    higher_is_better: bool,
    *,
    groups: Groups | None = None,
    test: Test = "sign_flip",
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Compare two metrics' values on the same samples, (n,) each; pairs with a NaN on either side are left out.

    test="sign_flip": permutation test of the mean difference. All 2^n sign patterns are used where they are at most
    `resamples`, else that many seeded draws, p = (1 + hits) / (1 + draws) (Phipson and Smyth 2010).
    test="wilcoxon": signed-rank test (Wilcoxon 1945), zero differences ranked and then dropped (Pratt 1959); exact without ties
    and zeros up to 50 pairs, else normal. It tests whether most pairs differ the same way and is deaf to a few huge
    differences; `better` then needs mean and ranks to agree.
    groups (n,): the group of each sample. Differences of a group flip their signs together; groups' mean differences are ranked.
    No pair gives NaN; one pair, or only zero differences, gives p = 1.
    """
    if test not in get_args(Test):
        raise InvalidInput(f"unknown test {test!r}: write {' or '.join(get_args(Test))}")
    one, other = vector(values, "values"), vector(control, "control")
    if len(one) != len(other):
        raise InvalidInput(f"a paired comparison needs the same samples on both sides, got {len(one)} and {len(other)}")
    d = one - other
    # Values that are equal on paper differ in rounding, often all the same way: that is no difference.
    d[np.abs(d) <= 1e-12 * np.maximum(np.abs(one), np.abs(other))] = 0
    present = ~np.isnan(d)
    d, numbers = d[present], grouped(groups, present)
    low, high = interval(d, numbers, confidence, resamples, seed)
    difference = float(d.mean()) if len(d) else float("nan")
    if test == "sign_flip":
        p, up = _sign_flip(parted(totals(d, numbers), seed), resamples, seed), difference > 0
    else:
        p, up = _wilcoxon(averages(d, numbers))
    better = p < 0.05 and (difference > 0) == up == higher_is_better
    return Comparison(difference, low, high, p, len(d), better, count(numbers))


def holm(p_values: npt.ArrayLike) -> Numbers:
    """P-values (m,) adjusted by Holm's step-down method (1979) for the family they form; NaN stays and does not count."""
    p = vector(p_values, "p_values")
    if ((p < 0) | (p > 1)).any():
        raise InvalidInput("p-values must lie between 0 and 1")
    tested = np.flatnonzero(~np.isnan(p))
    ranked = tested[np.argsort(p[tested], kind="stable")]
    adjusted = p.copy()
    adjusted[ranked] = np.minimum(1.0, np.maximum.accumulate(p[ranked] * np.arange(len(ranked), 0, -1)))
    return adjusted


def _sign_flip(d: Numbers, resamples: int, seed: int) -> float:
    n = len(d)
    if n == 0:
        return float("nan")
    largest = np.abs(d).max()
    if largest == 0:
        return 1.0
    d = d / largest
    # Sums that are equal on paper differ in rounding: count them as reached.
    reached = np.abs(d.sum()) - 1e-12 * n
    if 2**n <= resamples:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ d) >= reached).mean())
    sums = _flipped(d, resamples, seed)
    return float((1 + (np.abs(sums) >= reached).sum()) / (1 + resamples))


def _flipped(d: Numbers, resamples: int, seed: int) -> Numbers:
    """Sums (resamples,) of d with signs at random; the same signs for the same number and seed."""
    n = len(d)
    if n * resamples > KEPT:
        rng = np.random.default_rng(seed)
        return chunked(resamples, n, lambda part: _drawn_signs(rng, part, n).astype(np.float64) @ d)
    signs = _signs(n, resamples, seed)
    return chunked(resamples, n, lambda part: signs[part].astype(np.float64) @ d)


@lru_cache(maxsize=4)
def _signs(n: int, resamples: int, seed: int) -> Signs:
    """A table of a report has hundreds of comparisons over the same n."""
    rng = np.random.default_rng(seed)
    return chunked(resamples, n, lambda part: _drawn_signs(rng, part, n))


def _drawn_signs(rng: np.random.Generator, part: slice, n: int) -> Signs:
    return 1 - 2 * rng.integers(0, 2, size=(part.stop - part.start, n), dtype=np.int8)


def _wilcoxon(d: Numbers) -> tuple[float, bool]:
    """Two-sided p of the signed-rank test, and whether the positive ranks weigh more."""
    if not d.any():
        return (1.0 if len(d) else float("nan")), False
    d = np.round(d / np.abs(d).max(), 12)  # differences that are equal on paper tie
    ranks = stats.rankdata(np.abs(d))
    exact = len(d) <= 50 and bool(d.all()) and len(np.unique(np.abs(d))) == len(d)
    p = stats.wilcoxon(d, zero_method="pratt", method="exact" if exact else "asymptotic").pvalue
    return float(p), bool(ranks[d > 0].sum() > ranks[d < 0].sum())


def table(scores: npt.ArrayLike, groups: Groups | None = None) -> tuple[Numbers, Numbers, Labels | None]:
    """Scores (n, k) of k explainers on the same n samples as floats, its rows without NaN, and their groups' numbers; raises
    `InvalidInput`."""
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] < 2:
        raise InvalidInput(f"scores have shape (samples, explainers) with two or more explainers, got {given.shape}")
    if np.isinf(given).any():
        raise InvalidInput("scores hold infinity; a missing value is NaN")
    complete: npt.NDArray[np.bool_] = np.asarray(~np.isnan(given).any(axis=1))
    return given, given[complete], grouped(groups, complete)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of k explainers on n samples, and the comparison of each pair behind it.

    ranks (k,): mean rank of each, 1 is best, ties share theirs. statistic, p: chi-square with k - 1 degrees of freedom,
    corrected for ties. statistic_f, p_f: Iman and Davenport's F form, less cautious for few samples. critical_difference: mean
    ranks further apart than this differ at level `alpha`, all pairs taken together. p_pairs (k, k): Nemenyi's p of each
    pair, 1 on the diagonal. n_missing samples had a NaN and were left out. n_groups: groups that were ranked in
    place of samples, 0 for none.
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
    n_groups: int = 0

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Largest sets of explainers whose mean ranks all lie within the critical difference, best first: the bars of a
        critical-difference diagram. Explainers are numbered as given."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = self.ranks[order]
        groups: list[tuple[int, ...]] = []
        reach = -1
        for start in range(len(order)):
            end = int(np.searchsorted(ranks, ranks[start] + self.critical_difference, side="right"))
            if end > reach and np.isfinite(self.critical_difference):
                groups.append(tuple(order[start:end].tolist()))
                reach = end
        return tuple(groups)


def friedman(
    scores: npt.ArrayLike, higher_is_better: bool, *, groups: Groups | None = None, alpha: float = 0.05
) -> Friedman:
    """Compare k explainers by their scores (n, k) on the same n samples; samples with a NaN are left out.

    groups (n,): the group of each sample; the groups' mean scores are then ranked, each group counting once.

    Friedman 1937 with the correction for ties; Iman and Davenport 1980 for the F form; Nemenyi 1963 as in Demšar 2006 (JMLR 7,
    1-30), equations 3.2: CD = q sqrt(k (k + 1) / 6n), q the studentised range over sqrt(2). No complete sample: NaN all
    over; if every sample ties all explainers, p = 1.
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must lie between 0 and 1, got {alpha}")
    given, kept, numbers = table(scores, groups)
    n, k = kept.shape
    if n == 0:
        nan = float("nan")
        return Friedman(np.full(k, nan), nan, nan, nan, nan, nan, np.full((k, k), nan), alpha, 0, len(given))
    kept = averages(kept, numbers)
    blocks = len(kept)
    # Scores that are equal on paper differ in rounding: they tie.
    tidy = np.round(kept / (np.abs(kept).max() or 1.0), 12)
    ranked = stats.rankdata(-tidy if higher_is_better else tidy, axis=1)
    ranks = ranked.mean(axis=0)
    # The spread of the ranks themselves instead of k (k + 1) / 12 is the correction for ties.
    spread = ((ranked - (k + 1) / 2) ** 2).sum() / (blocks * (k - 1))
    statistic = float(blocks * ((ranks - (k + 1) / 2) ** 2).sum() / spread) if spread > 0 else 0.0
    p = float(stats.chi2.sf(statistic, k - 1))
    statistic_f, p_f = _iman_davenport(statistic, blocks, k)
    scale = np.sqrt(k * (k + 1) / (12 * blocks))
    critical = float(stats.studentized_range.ppf(1 - alpha, k, np.inf) * scale)
    pairs = np.ones((k, k))
    for i in range(k):
        for j in range(i):
            # scipy integrates numerically, and can end a hair outside [0, 1].
            far = stats.studentized_range.sf(abs(ranks[i] - ranks[j]) / scale, k, np.inf)
            pairs[i, j] = pairs[j, i] = min(max(float(far), 0.0), 1.0)
    missing = len(given) - n
    return Friedman(ranks, statistic, p, statistic_f, p_f, critical, pairs, alpha, n, missing, count(numbers))


def _iman_davenport(statistic: float, n: int, k: int) -> tuple[float, float]:
    """F form and its p; one sample leaves no degrees of freedom: NaN."""
    if n == 1:
        return float("nan"), float("nan")
    left = n * (k - 1) - statistic
    if left <= 1e-12 * n * k:  # every sample ranks alike
        return float("inf"), 0.0
    f = (n - 1) * statistic / left
    return float(f), float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
