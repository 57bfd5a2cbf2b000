"""How often intervals of means hold the true mean: simulated scores of known distributions, the product's own `summarise`.

    python benchmarks/intervals.py [--repeats 2000] [--seed 0]

Prints the tables of docs/statistics.md. A coverage from 2000 repeats is known to one percentage point. Scores are normal
variables put through quantile functions; those of a group have half of the variance before that in common.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv, ndtr, ndtri, stdtrit

from crossxai.evaluation.statistics import effective, summarise
from crossxai.evaluation.statistics.intervals import redrawn

Numbers = npt.NDArray[np.float64]
Quantile = Callable[[Numbers], Any]
SIZES = (5, 10, 12, 20, 30, 60)
KINDS = ("equal", "1 to 9", "1 to 40")
GROUPS = (5, 8, 10, 12, 20, 30)


@dataclass(frozen=True)
class Scores:
    """Scores with a known mean; of a paired difference, `control` is taken off, whose latent variable correlates by a half."""

    name: str
    mean: float
    quantile: Quantile
    control: Quantile | None = None
    hits: bool = False

    def generator(self, seed: int, n: int) -> np.random.Generator:
        """Random numbers of its own."""
        return np.random.default_rng([seed, n, *self.name.encode()])

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], latent: Numbers | None = None) -> Numbers:
        """Scores of a shape; latent (2, *shape): normal variables that make up half of the variance."""

        def normal(own: int) -> Numbers:
            drawn = rng.normal(size=shape)
            return drawn if latent is None else np.asarray((drawn + latent[own]) / np.sqrt(2))

        if self.control is None:
            return np.asarray(self.quantile(ndtr(normal(0))), np.float64)
        common = rng.normal(size=shape)
        one, other = (ndtr((common + normal(own)) / np.sqrt(2)) for own in (0, 1))
        return np.asarray(self.quantile(one) - self.control(other), np.float64)


def modes(share: float, low: float, high: float, sd: float) -> Quantile:
    """Two normal modes, `share` of the scores in the lower one."""

    def quantile(u: Numbers) -> Numbers:
        inside = np.where(u < share, u / share, (u - share) / (1 - share))
        return np.where(u < share, low, high) + sd * ndtri(np.clip(inside, 1e-12, 1 - 1e-12))

    return quantile


def steps(shares: Sequence[float], values: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)) -> Quantile:
    """Few values, each with its share."""
    edges = np.cumsum(shares)[:-1]
    return lambda u: np.asarray(values, np.float64)[np.searchsorted(edges, u)]


def exponential(u: Numbers) -> Any:
    return -np.log1p(-u)


def near_one(u: Numbers) -> Any:
    return betaincinv(5, 0.5, u)


def below_one(u: Numbers) -> Any:
    return betaincinv(8, 1, u)


def lognormal(sigma: float) -> Quantile:
    return lambda u: np.exp(sigma * ndtri(u))


HEAVY, MILD, HALVES = lognormal(1), lognormal(0.5), modes(0.5, 0.3, 0.8, 0.1)
MEAN_OF_HEAVY, MEAN_OF_MILD = np.exp(0.5), np.exp(0.125)
TIED, EVEN = steps((0.05, 0.05, 0.1, 0.3, 0.5)), steps((0.2,) * 5)
MEANS = (
    Scores("normal", 0, ndtri),
    Scores("skewed: exponential", 1, exponential),
    Scores("skewed: lognormal, σ = 0.5", MEAN_OF_MILD, MILD),
    Scores("very skewed: lognormal, σ = 1", MEAN_OF_HEAVY, HEAVY),
    Scores("bimodal: half and half", 0.55, HALVES),
    Scores("bimodal: 70 % and 30 %", 0.45, modes(0.7, 0.3, 0.8, 0.1)),
    Scores("bimodal: 80 % and 20 %, narrow", 0.32, modes(0.8, 0.2, 0.8, 0.05)),
    Scores("near 1: beta(5, 0.5)", 5 / 5.5, near_one),
    Scores("near 1: beta(8, 1)", 8 / 9, below_one),
    Scores("five values, evenly", 0.5, EVEN),
    Scores("five values, half of them 1", 0.7875, TIED),
    Scores("hits, 80 %", 0.8, steps((0.2, 0.8), (0, 1)), hits=True),
    Scores("hits, 95 %", 0.95, steps((0.05, 0.95), (0, 1)), hits=True),
)
DIFFERENCES = (
    Scores("normal", 0, ndtri, ndtri),
    Scores("skewed: gamma(2) - exponential", 1, lambda u: gammaincinv(2, u), exponential),
    Scores("skewed: both lognormal, σ = 0.5", 0.2 * MEAN_OF_MILD, lambda u: 1.2 * MILD(u), MILD),
    Scores("very skewed: lognormal, σ = 1, - 0.5", MEAN_OF_HEAVY - MEAN_OF_MILD, HEAVY, MILD),
    Scores("bimodal", 0.1, HALVES, modes(0.7, 0.3, 0.8, 0.1)),
    Scores("near 1: beta(5, 0.5) - beta(8, 1)", 5 / 5.5 - 8 / 9, near_one, below_one),
    Scores("five values", 0.2875, TIED, EVEN),
)
GROUPED = (*(MEANS[i] for i in (0, 1, 3, 4, 7, 10, 11)), *(DIFFERENCES[i] for i in (0, 3, 5)))


def covered(scores: Scores, n: int, repeats: int, seed: int) -> tuple[float, float]:
    """The share of intervals that hold the mean, and their median width beside Student's."""
    drawn, true = scores.draw(scores.generator(seed, n), (repeats, n)), scores.mean
    found = [summarise(row, hits=scores.hits) for row in drawn]
    low, high = np.array([(f.low, f.high) for f in found]).T
    student = 2 * stdtrit(n - 1, 0.975) * drawn.std(axis=1, ddof=1) / np.sqrt(n)
    spread = student > 0
    return float(_holds(low, high, true)), float(np.median((high - low)[spread] / student[spread]))


def covered_in_groups(scores: Scores, groups: int, kind: str, repeats: int, seed: int) -> tuple[float, float, float]:
    """The share of intervals that hold the mean with groups, without them, and the mean effective number of groups."""
    rng, true = scores.generator(seed, groups), scores.mean
    within, without, worth = [], [], []
    for _ in range(repeats):
        sizes = {
            "equal": lambda: np.full(groups, 5),
            "1 to 9": lambda: rng.integers(1, 10, size=groups),
            "1 to 40": lambda: np.minimum(rng.geometric(0.15, size=groups), 40),
        }[kind]()
        label = np.repeat(np.arange(groups), sizes)
        values = scores.draw(rng, (len(label),), rng.normal(size=(2, groups))[:, label])
        for labels, into in ((label, within), (None, without)):
            found = summarise(values, groups=labels, hits=scores.hits)
            into.append((found.low, found.high))
        worth.append(effective(sizes.astype(np.float64)))
    return *(float(_holds(*np.array(x).T, true)) for x in (within, without)), float(np.mean(worth))


def _holds(low: Numbers, high: Numbers, true: float) -> Any:
    return ((low <= true + 1e-9) & (true - 1e-9 <= high)).mean()


def others(scores: Scores, n: int, repeats: int, seed: int) -> dict[str, float]:
    """The coverage of other intervals on the same draws."""
    drawn, true = scores.draw(scores.generator(seed, n), (repeats, n)), scores.mean
    parts = [_others(part, true) for part in np.array_split(drawn, max(1, repeats // 250))]
    return {name: float(np.concatenate([p[name] for p in parts]).mean()) for name in parts[0]}


def _others(x: Numbers, true: float) -> dict[str, npt.NDArray[np.bool_]]:
    n, mean, sd = x.shape[1], x.mean(axis=1), x.std(axis=1, ddof=1)
    z = ((x - mean[:, None]) / np.where(sd > 0, sd, 1)[:, None]).T
    sums = redrawn(np.hstack([z, z**2]), 2000, 0) / n
    means, squares = np.hsplit(sums, 2)
    spread = np.sqrt(np.maximum(squares - means**2, 0) / (n - 1))
    below = ((means < -1e-12).mean(axis=0) + (means <= 1e-12).mean(axis=0)) / 2
    bias = ndtri(np.clip(below, 0.00025, 0.99975))
    acceleration = (z**3).sum(axis=0) / (6 * np.maximum((z**2).sum(axis=0), 1e-300) ** 1.5)
    student, normal = stdtrit(n - 1, 0.975), ndtri(0.975)
    wide = student * np.sqrt(n / (n - 1))

    def bca(reach: float) -> list[Numbers]:
        ends = []
        for end in (-reach, reach):
            level = ndtr(bias + (bias + end) / (1 - acceleration * (bias + end)))
            ends.append(np.array([np.quantile(m, p) for m, p in zip(means.T, level, strict=True)]))
        return ends

    t = means / np.maximum(spread, 1e-9)
    johnson = (z**3).mean(axis=0) / (6 * n)
    rng = np.random.default_rng(0)
    flips = rng.choice([-1.0, 1.0], size=(2000, n))
    wild = flips @ z / n
    wild_t = np.abs(wild) / np.maximum(np.sqrt(np.maximum((z**2).sum(axis=0) / n - wild**2, 0) / (n - 1)), 1e-9)
    symmetric = np.quantile(wild_t, 0.95, axis=0) / np.sqrt(n)
    reach = student / np.sqrt(n)
    intervals = {
        "BCa": bca(normal),
        "BCa, t-scaled": bca(wide),
        "percentile, expanded": list(np.quantile(means, [ndtr(-wide), ndtr(wide)], axis=0)),
        "Student's t": [-reach, reach],
        "Johnson's t": [johnson - reach, johnson + reach],
        "wild bootstrap-t": [-symmetric, symmetric],
        "bootstrap-t": [-q / np.sqrt(n) for q in np.quantile(t, [0.975, 0.025], axis=0)],
    }
    return {
        name: (mean + sd * low <= true + 1e-9) & (true - 1e-9 <= mean + sd * high)
        for name, (low, high) in intervals.items()
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown."""
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", choices=["samples", "groups", "others"], nargs="+", default=["samples", "groups", "others"]
    )
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS, help="how many samples groups have")
    options = parser.parse_args()
    common = {"repeats": options.repeats, "seed": options.seed}
    if "samples" in options.only:
        for title, every in (("mean of", MEANS), ("paired difference of", DIFFERENCES)):
            heads = [title, *(f"n = {n}" for n in SIZES), "width at 12"]
            rows = []
            for scores in every:
                results = {n: covered(scores, n, **common) for n in SIZES}
                rows.append([scores.name, *(f"{100 * results[n][0]:.1f}" for n in SIZES), f"{results[12][1]:.2f}"])
            table(heads, rows)
    if "others" in options.only:
        results = {s: others(s, 12, **common) for s in (*MEANS[:11], *DIFFERENCES)}
        heads = ["n = 12", *next(iter(results.values()))]
        name = {s: s.name if s in MEANS else f"paired: {s.name}" for s in results}
        table(heads, [[name[s], *(f"{100 * share:.1f}" for share in r.values())] for s, r in results.items()])
    if "groups" in options.only:
        for kind in options.kinds:
            results = {s: [covered_in_groups(s, g, kind, **common) for g in GROUPS] for s in GROUPED}
            worth = [f"{g} ({r[2]:.0f})" for g, r in zip(GROUPS, results[GROUPED[0]], strict=True)]
            heads = [f"groups of {'5' if kind == 'equal' else kind} samples", *worth, "30, groups not named"]
            name = {s: s.name if s in MEANS else f"paired: {s.name}" for s in GROUPED}
            table(
                heads,
                [[name[s], *(f"{100 * x[0]:.1f}" for x in r), f"{100 * r[-1][1]:.1f}"] for s, r in results.items()],
            )


if __name__ == "__main__":
    main()
