"""How often intervals of means hold the true mean: simulated scores of known distributions, the product's own `summarise`.

    python benchmarks/intervals.py [--repeats 2000] [--seed 0]

Prints the tables of docs/statistics.md. A coverage from 2000 repeats is known to one percentage point. Scores are normal
variables put through quantile functions; those of a group have a share of the variance before that in common, a half unless a
table says another.
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

Numbers = npt.NDArray[np.float64]
Quantile = Callable[[Numbers], Any]
SIZES = (5, 10, 12, 20, 30, 60)
PARTS = ("samples", "more", "groups", "likeness")
KINDS = ("equal", "1 to 9", "1 to 40")
GROUPS = (5, 8, 10, 12, 20, 30)
OTHER_SIZES = (10, 11, 15, 25, 50)


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

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...], latent: Numbers | None = None, between: float = 0.5
    ) -> Numbers:
        """Scores of a shape; latent (2, *shape): normal variables that make up the share `between` of the variance."""

        def normal(own: int) -> Numbers:
            drawn = rng.normal(size=shape)
            return drawn if latent is None else np.sqrt(1 - between) * drawn + np.sqrt(between) * latent[own]

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


def five_degrees(u: Numbers) -> Any:
    return stdtrit(5, u)


def some_zero(u: Numbers) -> Any:
    return np.where(u < 0.3, 0, betaincinv(2, 3, np.clip((u - 0.3) / 0.7, 0, 1)))


def even(u: Numbers) -> Any:
    return u


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
LIKERT = (0.02, 0.05, 0.08, 0.15, 0.25, 0.25, 0.2)
SEVEN = steps(LIKERT, range(1, 8))
RARE = modes(0.9, 0.3, 0.8, 0.1)
OTHER_MEANS = (
    Scores("t, 5 degrees of freedom", 0, five_degrees),
    Scores("gamma(4)", 4, lambda u: gammaincinv(4, u)),
    Scores("beta(2, 5)", 2 / 7, lambda u: betaincinv(2, 5, u)),
    Scores("bimodal: 90 % and 10 %", 0.35, RARE),
    Scores("seven values", float(np.dot(LIKERT, range(1, 8))), SEVEN),
    Scores("30 % zero, else beta(2, 3)", 0.28, some_zero),
    Scores("uniform", 0.5, even),
)
OTHER_DIFFERENCES = (
    Scores("t, 5 degrees of freedom, - normal", 0, five_degrees, ndtri),
    Scores("gamma(4) - gamma(2)", 2, lambda u: gammaincinv(4, u), lambda u: gammaincinv(2, u)),
    Scores("beta(2, 5) - uniform", 2 / 7 - 0.5, lambda u: betaincinv(2, 5, u), even),
    Scores("bimodal, 90 % and 10 %, - half and half", -0.2, RARE, HALVES),
    Scores(
        "seven values - evenly seven", float(np.dot(LIKERT, range(1, 8))) - 4, SEVEN, steps((1 / 7,) * 7, range(1, 8))
    ),
    Scores("30 % zero - beta(2, 3)", -0.12, some_zero, lambda u: betaincinv(2, 3, u)),
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


def covered_in_groups(
    scores: Scores, groups: int, kind: str, repeats: int, seed: int, between: float = 0.5
) -> tuple[float, float, float]:
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
        values = scores.draw(rng, (len(label),), rng.normal(size=(2, groups))[:, label], between)
        for labels, into in ((label, within), (None, without)):
            found = summarise(values, groups=labels, hits=scores.hits)
            into.append((found.low, found.high))
        worth.append(effective(sizes.astype(np.float64)))
    return *(float(_holds(*np.array(x).T, true)) for x in (within, without)), float(np.mean(worth))


def _holds(low: Numbers, high: Numbers, true: float) -> Any:
    return ((low <= true + 1e-9) & (true - 1e-9 <= high)).mean()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown."""
    for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def by_size(every: Sequence[Scores], title: str, sizes: Sequence[int], repeats: int, seed: int) -> None:
    """Print the coverage of these scores' intervals by number of samples, and their width at the second."""
    rows = []
    for scores in every:
        results = [covered(scores, n, repeats, seed) for n in sizes]
        width = results[sizes.index(12) if 12 in sizes else 0][1]
        rows.append([scores.name, *(f"{100 * share:.1f}" for share, _ in results), f"{width:.2f}"])
    table([title, *(f"n = {n}" for n in sizes), f"width at {12 if 12 in sizes else sizes[0]}"], rows)


def by_groups(kind: str, repeats: int, seed: int) -> None:
    """Print the coverage by number of groups."""
    results = {s: [covered_in_groups(s, g, kind, repeats, seed) for g in GROUPS] for s in GROUPED}
    worth = [f"{g} ({r[2]:.0f})" for g, r in zip(GROUPS, results[GROUPED[0]], strict=True)]
    heads = [f"groups of {'5' if kind == 'equal' else kind} samples", *worth, "30, groups not named"]
    table(
        heads,
        [[_name(s), *(f"{100 * x[0]:.1f}" for x in r), f"{100 * r[-1][1]:.1f}"] for s, r in results.items()],
    )


def by_likeness(repeats: int, seed: int) -> None:
    """Print the coverage of 10, 20 and 30 groups whose samples are little and very alike."""
    cells = [(kind, between) for kind in KINDS[:2] for between in (0.3, 0.8)]
    heads = [f"{'5' if kind == 'equal' else kind} samples each, {between:g} between" for kind, between in cells]
    rows = []
    for scores in GROUPED:
        found = [
            [covered_in_groups(scores, g, kind, repeats, seed, between)[0] for g in (10, 20, 30)]
            for kind, between in cells
        ]
        rows.append([_name(scores), *(" / ".join(f"{100 * share:.1f}" for share in cell) for cell in found)])
    table(["10 / 20 / 30 groups", *heads], rows)


def _name(scores: Scores) -> str:
    return scores.name if scores.control is None else f"paired: {scores.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument(
        "--kinds", choices=KINDS, nargs="+", default=KINDS, help="how many samples the groups of `groups` have"
    )
    options = parser.parse_args()
    common = {"repeats": options.repeats, "seed": options.seed}
    if "samples" in options.only:
        by_size(MEANS, "mean of", SIZES, **common)
        by_size(DIFFERENCES, "paired difference of", SIZES, **common)
    if "more" in options.only:
        by_size(OTHER_MEANS, "mean of", OTHER_SIZES, **common)
        by_size(OTHER_DIFFERENCES, "paired difference of", OTHER_SIZES, **common)
    if "groups" in options.only:
        for kind in options.kinds:
            by_groups(kind, **common)
    if "likeness" in options.only:
        by_likeness(**common)


if __name__ == "__main__":
    main()
