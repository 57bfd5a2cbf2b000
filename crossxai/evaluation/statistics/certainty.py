"""How certain an order of explainers is: over samples, over settings of a metric, and how many samples show a difference.

How often two conventions rank the same explainers differently: ranks, Kendall's tau, and the pairs that change places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import kendalltau, rankdata

from crossxai.errors import InvalidInput
from crossxai.evaluation.statistics.comparison import table
from crossxai.evaluation.statistics.intervals import Groups, averages, count, grouped, parted, redrawn, totals, vector

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """The order of k explainers when the n samples are drawn again, with replacement.

    means (k,): over the samples as they are. flips (k, k): share of draws in which two explainers stand the other way round; a
    tie on either side counts half; 0 on the diagonal. best (k,): share of draws in which each is best; ties share, it adds
    up to 1. same_order: share of draws with exactly the order of `means`. n_missing samples had a NaN and were left out.
    n_groups: whole groups were drawn, so many; 0 for samples.
    """

    means: Numbers
    flips: Numbers
    best: Numbers
    same_order: float
    n: int
    n_missing: int
    n_groups: int = 0


@dataclass(frozen=True)
class Settings:
    """The order of k explainers under s settings of a metric, by mean over samples.

    means (s, k). flips (k, k): share of pairs of settings that put two explainers in opposite order, a tie in one of them
    counting half. flip_rate: its mean over pairs of explainers. agreement (s, s): Kendall's tau-b between the orders of two
    settings, NaN if one of them ties all. best (k,): share of settings in which each is best, ties shared.
    """

    means: Numbers
    flips: Numbers
    flip_rate: float
    agreement: Numbers
    best: Numbers


def resample(
    scores: npt.ArrayLike,
    higher_is_better: bool,
    *,
    groups: Groups | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Resampled:
    """Draw the samples of scores (n, k) again `resamples` times, all explainers on the same draw, and rank the means; with groups
    (n,), the group of each sample, whole groups are drawn.

    A bootstrap of ranks (Hall and Miller 2009). `best` is how often each explainer wins, not a p-value: with two equal
    explainers it is anywhere. No complete sample: NaN.
    """
    if resamples < 1:
        raise InvalidInput(f"resamples must be at least 1, got {resamples}")
    given, kept, numbers = table(scores, groups)
    n, k = kept.shape
    means = kept.mean(axis=0) if n else np.full(k, np.nan)
    if n == 0:
        nan = np.full((k, k), np.nan)
        return Resampled(means, nan, nan[0].copy(), float("nan"), 0, len(given))
    good = kept if higher_is_better else -kept
    sums = redrawn(parted(totals(np.hstack([good, np.ones((n, 1))]), numbers), seed), resamples, seed)
    drawn = _tidy(sums[:, :k] / sums[:, k:], good)
    whole = _signs(_tidy(good.mean(axis=0)[None], good))[0]
    signs = _signs(drawn)
    flips = np.where(np.eye(k, dtype=bool), 0.0, np.abs(signs - whole).mean(axis=0) / 2)
    same = (signs == whole).all(axis=(1, 2)).mean()
    return Resampled(means, flips, _best(drawn).mean(axis=0), float(same), n, len(given) - n, count(numbers))


def across(settings: Sequence[npt.ArrayLike], higher_is_better: bool | Sequence[bool]) -> Settings:
    """Compare the orders of the same k explainers under two or more settings, scores (n, k) each (the n may differ).

    higher_is_better: one direction for all, or one per setting. Samples with a NaN are left out, per setting.
    """
    tables = [table(scores)[1] for scores in settings]
    if len(tables) < 2 or len({t.shape[1] for t in tables}) != 1:
        raise InvalidInput(
            f"give two or more settings of the same explainers, got {[t.shape[1] for t in tables]} explainers"
        )
    if not all(len(t) for t in tables):
        raise InvalidInput("a setting has no sample without NaN: leave it out")
    ways = [higher_is_better] * len(tables) if isinstance(higher_is_better, bool) else list(higher_is_better)
    if len(ways) != len(tables):
        raise InvalidInput(f"one direction per setting: {len(tables)} settings, {len(ways)} directions")
    means = np.stack([t.mean(axis=0) for t in tables])
    good = np.stack([_tidy(m if way else -m, t) for m, way, t in zip(means, ways, tables, strict=True)])
    signs = _signs(good)
    one, two = np.triu_indices(len(tables), 1)
    flips = np.abs(signs[one] - signs[two]).mean(axis=0) / 2
    k = means.shape[1]
    agreement = np.eye(len(tables))
    for i, j in zip(one.tolist(), two.tolist(), strict=True):
        agreement[i, j] = agreement[j, i] = _tau(signs[i], signs[j])
    return Settings(means, flips, float(flips[np.triu_indices(k, 1)].mean()), agreement, _best(good).mean(axis=0))


def _tidy(means: Numbers, scores: Numbers) -> Numbers:
    """Means rounded to 12 digits of the scores' size, so that sums that are equal on paper tie."""
    largest = np.abs(scores).max()
    return np.round(means / largest, 12) if largest > 0 else means


def _signs(means: Numbers) -> Numbers:
    """1 where explainer i beats j, -1 where it loses, 0 for a tie: means (m, k), higher better -> (m, k, k)."""
    return np.sign(means[:, :, None] - means[:, None, :])


def _best(means: Numbers) -> Numbers:
    top = means == means.max(axis=1, keepdims=True)
    return np.asarray(top / top.sum(axis=1, keepdims=True))


def _tau(a: Numbers, b: Numbers) -> float:
    """Kendall's tau-b from the signs of all pairs."""
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


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


@dataclass(frozen=True)
class Power:
    """A two-sided paired test at level `alpha` on n samples sees a true mean difference of `difference` with chance `power`,
    when per-sample differences have the standard deviation `sd`."""

    n: int
    difference: float
    sd: float
    alpha: float
    power: float


def spread(values: npt.ArrayLike, control: npt.ArrayLike, *, groups: Groups | None = None) -> float:
    """Standard deviation (n - 1) of the differences of two score vectors (n,), NaN left out; NaN for fewer than two.

    groups (n,): of the groups' mean differences instead; the n of `samples_needed`, `power_of` and `detectable` then counts
    groups.
    """
    one, other = vector(values, "values"), vector(control, "control")
    if len(one) != len(other):
        raise InvalidInput(f"a paired comparison needs the same samples on both sides, got {len(one)} and {len(other)}")
    d = one - other
    present = ~np.isnan(d)
    d, numbers = d[present], grouped(groups, present)
    d = averages(d, numbers)
    return float(d.std(ddof=1)) if len(d) > 1 else float("nan")


def samples_needed(difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> Power:
    """The fewest samples with which a mean difference is seen with chance `power`; `sd` comes from `spread` of a pilot.

    n = ((z_a + z_b) sd / d)^2 + z_a^2 / 2: the normal approximation, and Guenther's term (1981, The American Statistician 35)
    for the sd being estimated. A difference of 0, or below 1e-9 of the spread, raises `InvalidInput`: no
    number of samples shows it. `n` is at least 6:
    the sign-flip test cannot reach p < 0.05 with fewer (2 / 2^n).
    """
    _check(difference, sd, alpha)
    if not 0 < power < 1:
        raise InvalidInput(f"power must lie between 0 and 1, got {power}")
    za, zb = ndtri(1 - alpha / 2), ndtri(power)
    ratio = max(za + zb, 0.0) * sd / abs(difference)
    if ratio > 1e9:
        raise InvalidInput(
            f"a difference of {difference} is nothing beside a spread of {sd}: no number of samples shows it"
        )
    exact = ratio**2 + za**2 / 2
    n = max(math.ceil(exact - 1e-9), _fewest(alpha))
    return Power(n, difference, sd, alpha, _power(n, difference, sd, alpha))


def power_of(n: int, difference: float, sd: float, *, alpha: float = 0.05) -> Power:
    """The chance that n samples show a mean difference; 0 where the sign-flip test cannot reach `alpha` at all."""
    _check(difference, sd, alpha)
    if n < 1:
        raise InvalidInput(f"n must be at least 1, got {n}")
    return Power(n, difference, sd, alpha, _power(n, difference, sd, alpha))


def detectable(n: int, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> Power:
    """The smallest mean difference that n samples show with chance `power`; infinite where no difference can reach `alpha`."""
    _check(1.0, sd, alpha)
    if not 0 < power < 1:
        raise InvalidInput(f"power must lie between 0 and 1, got {power}")
    if n < _fewest(alpha):
        return Power(n, math.inf, sd, alpha, power)
    za, zb = ndtri(1 - alpha / 2), ndtri(power)
    return Power(n, max(za + zb, 0.0) * sd / math.sqrt(n - za**2 / 2), sd, alpha, power)


def _power(n: int, difference: float, sd: float, alpha: float) -> float:
    if n < _fewest(alpha):
        return 0.0
    za = ndtri(1 - alpha / 2)
    if sd == 0:
        return 1.0
    shift = abs(difference) / sd * math.sqrt(n - za**2 / 2)
    return float(ndtr(shift - za) + ndtr(-shift - za))


def _fewest(alpha: float) -> int:
    """Samples below which even unanimous signs leave p above alpha, 2 / 2^n; and enough for the correction to stay positive."""
    z = float(ndtri(1 - alpha / 2))
    return max(math.floor(1 - math.log2(alpha)), math.floor(z**2 / 2)) + 1


def _check(difference: float, sd: float, alpha: float) -> None:
    if not (math.isfinite(difference) and difference != 0):
        raise InvalidInput(f"a difference to look for is a finite number other than 0, got {difference}")
    if not (math.isfinite(sd) and sd >= 0):
        raise InvalidInput(
            f"sd is the standard deviation of per-sample differences, got {sd}; `spread` gives it from a pilot of two or more"
        )
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must lie between 0 and 1, got {alpha}")
