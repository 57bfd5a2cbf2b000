"""What other intervals of means would hold, on the draws of `intervals.py`: all its scores but hits, of 10 to 60 samples.

    python benchmarks/other_intervals.py [--repeats 2000] [--seed 0]

Prints a table of docs/statistics.md: of how many cells each interval's coverage lies within 93 to 97 %, and its width.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from intervals import DIFFERENCES, MEANS, OTHER_DIFFERENCES, OTHER_MEANS, Numbers, Scores, table
from scipy.special import ndtr, ndtri, stdtrit

from crossxai.evaluation.statistics.intervals import redrawn

SCORES = (*MEANS[:11], *DIFFERENCES, *OTHER_MEANS, *OTHER_DIFFERENCES)
SIZES = (10, 12, 20, 30, 60)


def measured(scores: Scores, n: int, repeats: int, seed: int) -> dict[str, tuple[float, float]]:
    """Each interval's coverage in percent, and its mean width beside Student's."""
    x, true = scores.draw(scores.generator(seed, n), (repeats, n)), scores.mean
    parts = np.array_split(x, max(1, repeats // 250))
    found = [_held(part, true) for part in parts]
    both = {name: np.concatenate([f[name] for f in found], axis=1) for name in found[0]}
    return {name: (100 * float(held.mean()), float(np.nanmean(width))) for name, (held, width) in both.items()}


def _held(x: Numbers, true: float) -> dict[str, Numbers]:
    """Whether each interval holds the mean, and its width beside Student's; (2, repeats) for scores (repeats, n)."""
    mean, sd = x.mean(axis=1), x.std(axis=1, ddof=1)
    spread = sd > 0
    z = (x - mean[:, None]) / np.where(spread, sd, 1)[:, None]
    student = 2 * stdtrit(x.shape[1] - 1, 0.975) / np.sqrt(x.shape[1])
    result = {}
    for name, (low, high) in ends(z).items():
        holds = (mean + sd * low <= true + 1e-9) & (true - 1e-9 <= mean + sd * high)
        result[name] = np.stack([holds, np.where(spread, (high - low) / student, np.nan)])
    return result


def ends(z: Numbers) -> dict[str, tuple[Numbers, Numbers]]:
    """Ends of the intervals of the mean of z (repeats, n) of mean 0 and standard deviation 1."""
    n, root = z.shape[1], np.sqrt(z.shape[1])
    z = z.T
    means, squares, cubes = np.split(redrawn(np.hstack([z, z**2, z**3]), 2000, 0) / n, 3, axis=1)
    variance = np.maximum(squares - means**2, 0)
    student, normal = stdtrit(n - 1, 0.975), ndtri(0.975)
    wide = student * np.sqrt(n / (n - 1))
    skewness = (z**3).mean(axis=0) * (n / (n - 1)) ** 1.5
    reach = np.full(z.shape[1], student)

    def bca(level: float) -> tuple[Numbers, Numbers]:
        below = ((means < -1e-12).mean(axis=0) + (means <= 1e-12).mean(axis=0)) / 2
        bias = ndtri(np.clip(below, 0.00025, 0.99975))
        acceleration = (z**3).sum(axis=0) / (6 * np.maximum((z**2).sum(axis=0), 1e-100) ** 1.5)
        levels = [ndtr(bias + (bias + end) / (1 - acceleration * (bias + end))) for end in (-level, level)]
        low, high = (np.array([np.quantile(m, p) for m, p in zip(means.T, at, strict=True)]) for at in levels)
        return low * root, high * root

    def bootstrap_t(own: Numbers) -> tuple[Numbers, Numbers]:
        up, down = np.quantile(means * root / own, [0.975, 0.025], axis=0)
        return -up, -down

    def floor(least: float) -> Numbers:
        return np.maximum(np.sqrt(variance * n / (n - 1)), least)

    def hall(t: Numbers, skew: Numbers) -> Numbers:
        return t + skew * t**2 / (3 * root) + skew**2 * t**3 / (27 * n) + skew / (6 * root)

    def hall_back(h: Numbers) -> Numbers:
        slope = np.where(np.abs(skewness) < 1e-6, 1e-6, skewness) / (3 * root)
        return np.asarray((np.cbrt(1 + 3 * slope * (h - skewness / (6 * root))) - 1) / slope)

    drawn = (cubes - 3 * means * squares + 2 * means**3) / np.maximum(variance, 1e-6) ** 1.5
    up, down = np.quantile(hall(means * root / floor(0.3), drawn), [0.975, 0.025], axis=0)
    shift = skewness * (2 * student**2 + 1) / (6 * root)
    flips = np.random.default_rng(0).choice([-1.0, 1.0], size=(2000, n)) @ z / n
    wild_spread = np.sqrt(np.maximum((z**2).sum(axis=0) / n - flips**2, 0) / (n - 1))
    wild = np.quantile(np.abs(flips) / np.maximum(wild_spread, 1e-9), 0.95, axis=0)
    likelihood = -empirical_likelihood(-z.T, student**2) * root, empirical_likelihood(z.T, student**2) * root
    percentile = np.quantile(means, [ndtr(-wide), ndtr(wide)], axis=0) * root
    drawn_t = bootstrap_t(floor(0.3))
    alone = {
        "BCa": bca(normal),
        "BCa, t-scaled": bca(wide),
        "percentile, expanded": (percentile[0], percentile[1]),
        "Student's t": (-reach, reach),
        "Johnson's t": (skewness / (6 * root) - reach, skewness / (6 * root) + reach),
        "wild bootstrap-t": (-wild, wild),
        "bootstrap-t": drawn_t,
    }
    beside_student = {
        "Student's t or bootstrap-t (ours)": drawn_t,
        "… with draws of 0.4 of the standard error at least": bootstrap_t(floor(0.4)),
        "… of 0.5 at least": bootstrap_t(floor(0.5)),
        "… smoothed by a tenth of the variance": bootstrap_t(np.sqrt(0.9 * floor(0) ** 2 + 0.1)),
        "Student's t or Hall's transformation": (-hall_back(reach), -hall_back(-reach)),
        "Student's t or Hall's transformation, bootstrapped": (-hall_back(up), -hall_back(down)),
        "Student's t or twice its shift by skewness": (2 * shift - reach, 2 * shift + reach),
        "Student's t or empirical likelihood, F": likelihood,
    }
    outer = {name: (np.minimum(low, -reach), np.maximum(high, reach)) for name, (low, high) in beside_student.items()}
    return {name: (low / root, high / root) for name, (low, high) in (alone | outer).items()}


def empirical_likelihood(x: Numbers, limit: float) -> Numbers:
    """The largest mean of x (repeats, n), weights 1 / (γ - x), whose likelihood ratio (Owen 1988) is within the limit."""
    largest = x.max(axis=1)
    low, high = np.full(len(x), -40.0), np.full(len(x), 40.0)  # log of γ beyond the largest

    def weights(log: Numbers) -> npt.NDArray[np.float64]:
        inverse = 1 / ((largest + np.exp(log))[:, None] - x)
        return np.asarray(inverse / inverse.sum(axis=1, keepdims=True))

    for _ in range(60):
        middle = (low + high) / 2
        far = -2 * np.log(x.shape[1] * weights(middle)).sum(axis=1) > limit
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    return np.asarray((weights(high) * x).sum(axis=1))


def show(cells: Sequence[Mapping[str, tuple[float, float]]]) -> None:
    """Print how many cells each interval holds at 93 to 97 %."""
    rows = []
    for name in cells[0]:
        held, width = np.array([cell[name] for cell in cells]).T
        counts = (((held >= 93) & (held <= 97)).sum(), (held < 93).sum(), (held > 97).sum())
        short = np.maximum(93 - held, 0).sum()
        rows.append([name, *map(str, counts), f"{short:.0f}", f"{width.mean():.2f}", f"{width.max():.2f}"])
    heads = ["interval", "93 to 97 %", "below", "above", "points below 93, in all", "mean width", "widest cell"]
    table([f"{len(cells)} cells" if head == "interval" else head for head in heads], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells = [measured(scores, n, options.repeats, options.seed) for scores in SCORES for n in SIZES]
    show(cells)


if __name__ == "__main__":
    main()
