"""How far two explanations disagree, by the six measures of Krishna et al. 2022 ("The Disagreement Problem in Explainable Machine
Learning")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from crossxai.conventions.agreement import TOP, aligned
from crossxai.model import Array


@dataclass(frozen=True)
class Disagreement:
    """The six measures, one number per sample each, all arrays (n,), 1 where two explanations agree.

    features, ranks, signs, signed_ranks: the share of the top features that both have; at the same rank; with the same sign; with
    both. rank_correlation: Spearman's, and pairwise_ranks: the share of pairs in the same order, both of the magnitudes of the
    features that are at the top of either; NaN where one explanation does not order them.
    """

    features: Array
    ranks: Array
    signs: Array
    signed_ranks: Array
    rank_correlation: Array
    pairwise_ranks: Array


def disagreement(one: Array, other: Array, top: float = TOP) -> Disagreement:
    """The measures of maps (n, …, channels), their entries being the features; top: the share of entries of largest magnitude."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in aligned(one, other))
    count = max(1, round(top * a.shape[1]))
    return Disagreement(*np.array([_measures(x, y, count) for x, y in zip(a, b, strict=True)]).T)


def _measures(a: Array, b: Array, count: int) -> tuple[float, ...]:
    first, second = (np.argsort(-np.abs(v), kind="stable")[:count] for v in (a, b))
    both = np.intersect1d(first, second)
    ranked = first[first == second]
    of_interest = np.union1d(first, second)
    x, y = np.abs(a[of_interest]), np.abs(b[of_interest])
    ordered = np.ptp(x) > 0 and np.ptp(y) > 0
    return (
        len(both) / count,
        len(ranked) / count,
        float((np.sign(a[both]) == np.sign(b[both])).sum()) / count,
        float((np.sign(a[ranked]) == np.sign(b[ranked])).sum()) / count,
        float(spearmanr(x, y).statistic) if ordered else float("nan"),
        _same_order(x, y) if ordered else float("nan"),
    )


def _same_order(x: Array, y: Array) -> float:
    """The share of pairs that both put in the same order, ties with ties."""
    same = sum(int((np.sign(x[i + 1 :] - x[i]) == np.sign(y[i + 1 :] - y[i])).sum()) for i in range(len(x) - 1))
    return same / (len(x) * (len(x) - 1) / 2)
