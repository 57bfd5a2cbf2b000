"""How many samples a paired comparison needs to see a difference of a given size, and what a number of samples can see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from crossxai.errors import InvalidInput
from crossxai.evaluation.statistics.comparison import vector


@dataclass(frozen=True)
class Power:
    """A two-sided paired test at level `alpha` on n samples sees a true mean difference of `difference` with chance `power`,
    when per-sample differences have the standard deviation `sd`."""

    n: int
    difference: float
    sd: float
    alpha: float
    power: float


def spread(values: npt.ArrayLike, control: npt.ArrayLike) -> float:
    """Standard deviation (n - 1) of the differences of two score vectors (n,), NaN left out; NaN for fewer than two."""
    one, other = vector(values, "values"), vector(control, "control")
    if len(one) != len(other):
        raise InvalidInput(f"a paired comparison needs the same samples on both sides, got {len(one)} and {len(other)}")
    d = one - other
    d = d[~np.isnan(d)]
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
