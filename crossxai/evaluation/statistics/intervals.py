"""Means over samples with their confidence intervals, also where samples belong to groups: patches of one patient, for instance.

On either side, an interval ends at the further of two: Student's t, and the bootstrap-t (Efron 1982, Hall 1988), which draws
samples, or whole groups, again. Each fails where the other does not: Student's where scores are skewed, the bootstrap-t where few
samples hide that they are (docs/statistics.md has the measured coverage).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betaincinv, stdtrit

from crossxai.errors import InvalidInput

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]
Groups = Sequence[Hashable] | npt.NDArray[np.generic]
"""The group of each sample, any label; the same label, the same group."""

FEWEST = 10
"""Samples, or groups, below which simulated intervals held the mean less often than they say."""

MANY = 2000
"""Samples, or groups, that are drawn one by one. More of them are put into so many parts at random, and parts are drawn."""

_LEAST = 3  # samples or groups: Student's interval of two is 25 standard errors wide
_CHUNK = 1_000_000  # random numbers held at once
KEPT = 20 * _CHUNK  # draws that are kept for the next mean of as many samples
_FLOOR = 0.3  # of the standard error: a draw of one value many times has no spread, and its t would be infinite


@dataclass(frozen=True)
class Summary:
    """Mean over n samples with its confidence interval [low, high]; n_missing samples were NaN and left out.

    n_groups: how many groups they belong to; 0 where every sample stands for itself.
    """

    mean: float
    low: float
    high: float
    n: int
    n_missing: int
    n_groups: int = 0


def summarise(
    values: npt.ArrayLike,
    *,
    groups: Groups | None = None,
    hits: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """Mean of per-sample values (n,) with its interval, NaN left out; groups (n,): the group of each sample.

    hits: the values are 1 for a hit and 0 for none, and the interval is that of a share, Blaker's (2000), which knows that ten
    hits of ten may be luck; with groups Korn and Graubard's (1998).
    One or two values, or groups, leave the interval NaN (too little is known of the spread); two or more equal values make it
    that value; none at all makes mean and interval NaN. Infinite values raise `InvalidInput`.
    """
    given = vector(values, "values")
    present = ~np.isnan(given)
    kept, numbers = given[present], grouped(groups, present)
    if hits and ((kept < 0) | (kept > 1)).any():
        raise InvalidInput("hits are values from 0 to 1")
    low, high = (_share if hits else interval)(kept, numbers, confidence, resamples, seed)
    mean = float(kept.mean()) if len(kept) else float("nan")
    return Summary(mean, low, high, len(kept), len(given) - len(kept), count(numbers))


def interval(x: Numbers, numbers: Labels | None, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """The interval of the mean of x (n,) without NaN; numbers (n,): the group of each sample, or None."""
    low, high = _bands(x[:, None], numbers, confidence, resamples, seed)
    return float(low[0]), float(high[0])


def bands(
    table: npt.ArrayLike,
    *,
    groups: Groups | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Numbers, Numbers]:
    """Intervals (low, high), (k,) each, of the means of a table's columns (n, k); rows that are not finite are left out."""
    rows = np.asarray(table, dtype=np.float64)
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    numbers, step = grouped(groups, finite), max(1, _CHUNK // max(1, len(rows)))
    starts = range(0, max(1, rows.shape[1]), step)  # columns have the same draws, together or not
    ends = [_bands(rows[finite, i : i + step], numbers, confidence, resamples, seed) for i in starts]
    low, high = (np.concatenate(side) for side in zip(*ends, strict=True))
    return low, high


def _bands(x: Numbers, numbers: Labels | None, confidence: float, resamples: int, seed: int) -> tuple[Numbers, Numbers]:
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie between 0 and 1, got {confidence}")
    if resamples < 1:
        raise InvalidInput(f"resamples must be at least 1, got {resamples}")
    sizes = np.ones(len(x)) if numbers is None else np.bincount(numbers).astype(np.float64)
    g, k = len(sizes), x.shape[1]
    if g < 2:
        return np.full(k, np.nan), np.full(k, np.nan)
    equal = (x == x[0]).all(axis=0)
    mean = np.where(equal, x[0], x.mean(axis=0))
    if g < _LEAST:
        known = np.where(equal, mean, np.nan)
        return known, known
    scale = np.abs(x - mean).max(axis=0)
    residuals = totals((x - mean) / np.where(scale > 0, scale, 1), numbers)
    error = _error(residuals, sizes)
    drawn_from = parted(np.hstack([residuals, sizes[:, None]]), seed)
    residuals, weights, g = drawn_from[:, :-1], drawn_from[:, -1:], len(drawn_from)
    sums = redrawn(np.hstack([residuals, residuals**2, residuals * weights, weights, weights**2]), resamples, seed)
    drawn, squared = sums[:, -2:-1], sums[:, -1:]
    shift = sums[:, :k] / drawn
    spread = sums[:, k : 2 * k] - 2 * shift * sums[:, 2 * k : 3 * k] + shift**2 * squared
    own = np.sqrt(g / (g - 1) * np.maximum(spread, 0)) / drawn
    ratio = shift / np.maximum(np.maximum(own, _FLOOR * error), np.finfo(float).tiny)
    down, up = np.quantile(ratio, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    reach = stdtrit(freedom(sizes), (1 + confidence) / 2)
    reached = error * scale
    return mean - np.maximum(reach, up) * reached, mean + np.maximum(reach, -down) * reached


def _error(residuals: Numbers, sizes: Numbers) -> Numbers:
    """Standard errors (k,) of means from the residuals' sums by group (g, k) and the groups' sizes (g,): a group that is a large
    part of all pulls the mean towards itself, which its residual is corrected for (as in CR2, Bell and McCaffrey 2002)."""
    kept = 1 - sizes / sizes.sum()
    return np.asarray(np.sqrt((residuals**2 / kept[:, None]).sum(axis=0)) / sizes.sum())


def effective(sizes: Numbers) -> float:
    """The number of groups of equal size that are worth as much as groups of these sizes (g,), Kish's n² / Σ n_g²."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def freedom(sizes: Numbers) -> float:
    """Degrees of freedom of a standard error from groups of these sizes (g,); n - 1 where each is one sample."""
    return max(effective(sizes) - 1, 1.0)


def _share(x: Numbers, numbers: Labels | None, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """The interval of a share of hits; the last two are not needed, as nothing is drawn."""
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie between 0 and 1, got {confidence}")
    sizes = np.ones(len(x)) if numbers is None else np.bincount(numbers).astype(np.float64)
    if not len(x):
        return float("nan"), float("nan")
    share, n, tail = float(x.mean()), float(len(x)), (1 - confidence) / 2
    if numbers is None:
        return _blaker(float(x.sum()), n, tail), 1 - _blaker(n - float(x.sum()), n, tail)
    n = _worth(x - share, numbers, sizes, share * (1 - share), 1 - tail)
    return _clopper_pearson(share * n, n, tail), 1 - _clopper_pearson(n - share * n, n, tail)


def _clopper_pearson(hits: float, n: float, tail: float) -> float:
    """The share with which that many hits of n, or more, have the chance `tail`."""
    return float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0


def _blaker(hits: float, n: float, tail: float) -> float:
    """The lowest share that Blaker's test does not reject at twice `tail`. Its p is the chance of that many hits or more, plus
    that of the most few hits which are no likelier; below Clopper and Pearson's end it rejects all."""
    start = _clopper_pearson(hits, n, tail)
    if start == 0:
        return 0.0

    def more(share: float) -> float:
        return float(betainc(hits, n - hits + 1, share))

    def at_most(few: float, share: float) -> float:
        return float(betaincc(few + 1, n - few, share)) if few >= 0 else 0.0

    def excess(share: float) -> float:
        return more(share) + at_most(few, share) - 2 * tail

    few = float((betaincc(np.arange(n) + 1, n - np.arange(n), start) <= tail * (1 + 1e-9)).sum()) - 1
    # From here on, one hit more is no likelier than the hits found, and p is at least twice their chance.
    joined = float(brentq(lambda share: more(share) - at_most(few + 1, share), start, 1))
    if excess(joined) <= 0:
        return joined
    return start if excess(start) >= 0 else float(brentq(excess, start, joined))


def _worth(residuals: Numbers, numbers: Labels, sizes: Numbers, variance: float, level: float) -> float:
    """How many independent samples grouped hits are worth; where all are alike, as many as there are groups."""
    n, least = float(len(residuals)), effective(sizes)
    error = float(_error(totals(residuals[:, None], numbers), sizes)[0])
    if variance <= 0 or error == 0:
        return least
    wider = stdtrit(n - 1, level) / stdtrit(freedom(sizes), level)
    return float(min(variance / error**2 * wider**2 + 1, n))


def grouped(groups: Groups | None, present: npt.NDArray[np.bool_]) -> Labels | None:
    """Numbers 0 … of the groups of the samples that are `present` (n,); None without groups, or if each has one sample."""
    if groups is None:
        return None
    if len(groups) != len(present):
        raise InvalidInput(f"groups name the group of each sample: got {len(groups)} for {len(present)} samples")
    if isinstance(groups, np.ndarray) and np.issubdtype(groups.dtype, np.integer):  # a million, without a Python loop
        _, firsts, numbers = np.unique(groups[present], return_index=True, return_inverse=True)
        return None if len(firsts) == len(numbers) else np.argsort(np.argsort(firsts)).astype(np.intp)[numbers]
    labels = list(groups)
    if any(label is None or label in ("",) or label != label for label in labels):  # NaN differs from itself
        raise InvalidInput("a sample has no group: give it a label of its own")
    chosen = [label for label, held in zip(labels, present, strict=True) if held]
    order = {label: number for number, label in enumerate(dict.fromkeys(chosen))}
    return None if len(order) == len(chosen) else np.array([order[label] for label in chosen], dtype=np.intp)


def count(numbers: Labels | None) -> int:
    """How many groups there are, 0 for none."""
    return 0 if numbers is None else int(numbers.max()) + 1


def totals(rows: Numbers, numbers: Labels | None) -> Numbers:
    """Sums by group (g, …) of rows (n, …); the rows themselves without groups."""
    if numbers is None:
        return rows
    columns = [np.bincount(numbers, column) for column in rows.reshape(len(rows), -1).T]
    return np.stack(columns, axis=1).astype(np.float64).reshape(-1, *rows.shape[1:])


def parted(rows: Numbers, seed: int) -> Numbers:
    """Sums (MANY, …) over parts of more than MANY rows (n, …), each row being in one part at random; else the rows themselves.

    Means of parts are as skewed as rows make the mean of all, and random signs of parts are some of all random signs, so that
    intervals and tests by parts hold, too; time and memory do not grow with the draws of a million rows.
    """
    n = len(rows)
    if n <= MANY:
        return rows
    return np.add.reduceat(rows[_shuffled(n, seed)], np.arange(MANY) * n // MANY, axis=0)


@lru_cache(maxsize=2)
def _shuffled(n: int, seed: int) -> Labels:
    return np.random.default_rng([seed, n]).permutation(n)


def averages(rows: Numbers, numbers: Labels | None) -> Numbers:
    """Means by group (g, …) of rows (n, …); the rows themselves without groups."""
    return totals(rows, numbers) / totals(np.ones((len(rows), *[1] * (rows.ndim - 1))), numbers)


def vector(values: npt.ArrayLike, what: str) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise InvalidInput(f"{what} must have shape (n,), one number per sample, got {numbers.shape}")
    if np.isinf(numbers).any():
        raise InvalidInput(f"{what} hold infinity; a missing value is NaN")
    return numbers


def redrawn(rows: Numbers, resamples: int, seed: int) -> Numbers:
    """Sums (resamples, k) over the n rows (n, k) drawn again with replacement; the same draws for the same n and seed."""
    n = len(rows)
    if n * resamples <= KEPT:
        counts = _counts(n, resamples, seed)
        return chunked(resamples, n, lambda part: counts[part].astype(np.float64) @ rows)
    rng = np.random.default_rng(seed)
    return chunked(resamples, n, lambda part: _drawn(rng, n, part.stop - part.start).astype(np.float64) @ rows)


@lru_cache(maxsize=4)
def _counts(n: int, resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    """A table of a report has thousands of means over the same n."""
    rng = np.random.default_rng(seed)
    return chunked(resamples, n, lambda part: _drawn(rng, n, part.stop - part.start))


def _drawn(rng: np.random.Generator, n: int, size: int) -> npt.NDArray[np.uint16]:
    """How often each of n rows is drawn (size, n)."""
    places = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
    return np.bincount(places.ravel(), minlength=size * n).reshape(size, n).astype(np.uint16)


def chunked(total: int, width: int, draw: Callable[[slice], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`total` rows of numbers from draw(which), in chunks whose size × width stays small in memory."""
    most = max(1, _CHUNK // width)
    return np.concatenate([draw(slice(start, min(start + most, total))) for start in range(0, total, most)])
