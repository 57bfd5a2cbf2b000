"""How sure a ranking of explainers of libraries is: ranks told apart, resampled samples, fewer steps, and what the samples can
show. Samples that any of them lacks are left out, and explainers without any value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Scores
from crossxai.evaluation import statistics
from crossxai.evaluation.curves import estimates
from crossxai.evaluation.curves.steps import area
from crossxai.model import Array
from crossxai.report.analysis import Row, scored
from crossxai.report.run import Counted, RunRecord
from crossxai.report.words import Fact, write

FIRM = 0.95
FEWEST = 6
"""Samples below which no sign-flip test can be significant."""
MANY = 100_000


@dataclass(frozen=True)
class Place:
    """One explainer in a ranking. rank: mean rank over samples, 1 is best. first: share of resamples in which it is first.
    groups: letters; those that share one are not told apart by rank. against_random: in words, "" without that control."""

    label: str
    mean: float
    rank: float
    first: float
    groups: str
    against_random: str


@dataclass(frozen=True)
class Fewer:
    """The same curves read at fewer steps: who is first then, and the share of pairs of explainers that change places."""

    steps: int
    first: tuple[str, ...]
    flips: float


@dataclass(frozen=True)
class Estimated:
    """Areas from a few points of each curve. half_width: the largest 95 % interval that leaving out points gives a mean, halved.
    precision: what was asked for, NaN if nothing; reached: explainers that have it, of `of`."""

    points: float
    whole: int
    half_width: float
    precision: float
    reached: int
    of: int


@dataclass(frozen=True)
class Ranking(Counted):
    """Explainers of a model by a metric, best mean first, and how firm that is.

    n samples with a value of every explainer, of n_groups groups, 0 if each stands for itself; left_out have not, and `without`,
    explainers without any. statistic, p: Friedman's test; critical_difference: of mean ranks, Nemenyi's at 5 %. same_order:
    share of resamples with exactly this order. typical: the mean difference that so many show with a chance of 80 % between two
    explainers (of the median spread), infinite if none. runner: the first explainer whose mean is not the best one's; seen: the
    difference of the two; needed: samples, or groups, that one as small needs, 0 if there is none.
    """

    model: str
    metric: str
    places: tuple[Place, ...]
    n: int
    n_groups: int
    left_out: int
    without: tuple[str, ...]
    statistic: float
    p: float
    critical_difference: float
    same_order: float
    steps: int
    fewer: tuple[Fewer, ...]
    typical: float
    runner: str
    seen: float
    needed: int
    estimated: Estimated | None

    @property
    def first(self) -> tuple[str, ...]:
        """Those whose mean is the best one."""
        best = self.places[0].mean
        return tuple(p.label for p in self.places if math.isclose(p.mean, best, rel_tol=1e-12, abs_tol=1e-15))

    @property
    def stays(self) -> float:
        """The share of resamples in which one of them is first."""
        return sum(p.first for p in self.places if p.label in self.first)

    @property
    def top(self) -> tuple[Place, ...]:
        """Those with the best mean rank."""
        best = min(p.rank for p in self.places)
        return tuple(p for p in self.places if math.isclose(p.rank, best, rel_tol=1e-9))

    def top_group(self, together: bool) -> tuple[str, ...]:
        """The others that are not told apart from the best by rank, or those that are."""
        letters, top = set(self.top[0].groups), {p.label for p in self.top}
        return tuple(p.label for p in self.places if p.label not in top and bool(set(p.groups) & letters) == together)

    @property
    def about_needed(self) -> int:
        """`needed` rounded up to two digits: more than the spread of so few samples is known to."""
        unit = int(10 ** max(0, len(str(self.needed)) - 2))
        return -(-self.needed // unit) * unit


@dataclass(frozen=True)
class Certainty(Fact):
    """How sure the rankings by one metric are, by model."""

    firm: ClassVar[float] = FIRM
    fewest: ClassVar[int] = FEWEST
    many: ClassVar[int] = MANY
    metric: str
    rankings: Mapping[str, Ranking]


def sentences(run: RunRecord, metric: str, rankings: Sequence[Ranking]) -> tuple[str, ...]:
    """What the rankings by one metric say in words, models together where they say the same; the firmness of the order first."""
    return write(Certainty(models=run.models, metric=metric, rankings={r.model: r for r in rankings})).points


def metrics(run: RunRecord) -> tuple[str, ...]:
    """Whose ranking is looked at: deletion and insertion, or the run's first metric."""
    return run.curves or run.metrics[:1]


def rankings(run: RunRecord, rows: Sequence[Row]) -> tuple[Ranking, ...]:
    """Per metric and model with two or more explainers that have values on a common sample."""
    every = [_ranking(run, rows, model, metric) for metric in metrics(run) for model in run.models]
    return tuple(r for r in every if r is not None)


def _ranking(run: RunRecord, rows: Sequence[Row], model: str, metric: str) -> Ranking | None:
    chosen = scored(rows, model, metric)
    every = [r.label for r in rows if r.model == model and not r.control and metric in r.cells]
    scores = {r.label: run.of(model)[r.label].scores[metric] for r in chosen}
    if len(chosen) < 2:
        return None
    values = np.stack([s.value for s in scores.values()], axis=1)
    complete: npt.NDArray[np.bool_] = np.asarray(~np.isnan(values).any(axis=1))
    if not complete.any():
        return None
    values, higher = values[complete], chosen[0].cells[metric].higher_is_better
    means = values.mean(axis=0)
    order = np.argsort(-means if higher else means, kind="stable")
    labels, values = [chosen[i].label for i in order], values[:, order]
    groups = None if run.groups is None else run.groups[complete]
    tested = statistics.friedman(values, higher, groups=groups)
    drawn = statistics.resample(values, higher, groups=groups)
    versus = [test.verdict if (test := chosen[i].cells[metric].versus) else "" for i in order]
    numbers = zip(drawn.means.tolist(), tested.ranks.tolist(), drawn.best.tolist(), strict=True)
    letters = _letters(tested.groups, len(labels))
    steps, fewer = _fewer([scores[x] for x in labels], labels, complete, higher)
    typical, runner, seen, needed = _power(values, groups)
    return Ranking(
        model=model,
        metric=metric,
        places=tuple(Place(x, *own, *rest) for x, own, *rest in zip(labels, numbers, letters, versus, strict=True)),
        n=len(values),
        n_groups=drawn.n_groups,
        left_out=len(complete) - len(values),
        without=tuple(x for x in every if x not in labels),
        statistic=tested.statistic,
        p=tested.p,
        critical_difference=tested.critical_difference,
        same_order=drawn.same_order,
        steps=steps,
        fewer=fewer,
        typical=typical,
        runner=labels[runner],
        seen=seen,
        needed=needed,
        estimated=_estimated(list(scores.values())),
    )


def _letters(groups: Sequence[Sequence[int]], k: int) -> list[str]:
    """The letters of each explainer; the twenty-seventh group and those after it share the last one's."""
    names = [ascii_uppercase[min(i, 25)] for i in range(len(groups))]
    return ["".join(name for name, group in zip(names, groups, strict=True) if i in group) for i in range(k)]


def _power(values: Array, groups: npt.NDArray[np.intp] | None) -> tuple[float, int, float, int]:
    """What the samples can show between two explainers; the first that differs from the best, by how much, and the samples,
    or groups, that this needs."""
    pairs = combinations(range(values.shape[1]), 2)
    spreads = [statistics.spread(values[:, i], values[:, j], groups=groups) for i, j in pairs]
    n, sd = len(values) if groups is None else len(np.unique(groups)), float(np.median(spreads))
    typical = statistics.detectable(n, sd).difference if math.isfinite(sd) else math.inf
    gaps = np.abs(values.mean(axis=0) - values[:, 0].mean())
    different = np.flatnonzero(gaps > 1e-8 * np.abs(values).max())
    if n < 2 or not different.size:
        return typical, 0, 0.0, 0
    runner = int(different[0])
    seen, own = float(gaps[runner]), statistics.spread(values[:, 0], values[:, runner], groups=groups)
    return typical, runner, seen, statistics.samples_needed(seen, own).n


def _fewer(
    scores: Sequence[Scores], labels: Sequence[str], complete: npt.NDArray[np.bool_], higher: bool
) -> tuple[int, tuple[Fewer, ...]]:
    """Steps of the curves, and the rankings by half and by a quarter of them; none if areas are not those of the curves."""
    full = [thinned(s, 1) for s in scores]
    if any(f is None or not np.allclose(f, s.value, equal_nan=True) for f, s in zip(full, scores, strict=True)):
        return 0, ()
    sizes = {s.curve.shape[1] - 1 for s in scores if s.curve is not None}
    steps, fewer = max(sizes), []
    for factor in (2, 4):
        columns = [values for s in scores if (values := thinned(s, factor)) is not None]
        if len(columns) < len(scores):
            continue
        table = np.stack(columns, axis=1)[complete]
        whole = np.stack([f for f in full if f is not None], axis=1)[complete]
        settings = statistics.across([whole, table], higher)
        best = settings.means[1] if higher else -settings.means[1]
        first = tuple(x for x, mean in zip(labels, best, strict=True) if np.isclose(mean, best.max(), rtol=1e-12))
        fewer.append(Fewer(steps // factor, first, settings.flip_rate))
    return steps, tuple(fewer)


def thinned(scores: Scores, factor: int) -> Array | None:
    """Areas (n,) of curves of which every `factor`-th point is kept, both ends included; None with fewer than two steps left."""
    if scores.curve is None or scores.fractions is None or (scores.curve.shape[1] - 1) // factor < 2:
        return None
    steps = scores.curve.shape[1] - 1
    kept = np.unique(np.rint(np.linspace(0, steps, steps // factor + 1)).astype(np.intp))
    return area(np.asarray(scores.curve)[:, kept], scores.fractions[..., kept])


def _estimated(scores: Sequence[Scores]) -> Estimated | None:
    """What estimates of areas say of their own error; None if the curves were scored whole."""
    options = [auto(s.params) for s in scores]
    if not all(options):
        return None
    halves, points = [], []
    for s in scores:
        known = ~np.isnan(s.value)
        variances = s.extras["step_variance"][known].astype(np.float64)
        reach = estimates.t_quantile(variances, np.ones(len(variances), np.intp), 0.95)
        halves.append(reach * float(np.sqrt(variances.sum())) / len(variances))
        points.append(s.extras["points"][known].mean())
    wish = float(options[0].get("precision", math.nan))
    reached = sum(h <= wish for h in halves)
    return Estimated(float(np.mean(points)), options[0]["of"] + 1, max(halves), wish, reached, len(halves))


def auto(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of `steps="auto"` among a metric's parameters; empty for curves that were scored whole."""
    steps = params.get("steps")
    options = steps.get("auto") if isinstance(steps, Mapping) else None
    return options if isinstance(options, Mapping) else {}


def without_curve(run: RunRecord, metric: str) -> bool:
    """Whether a metric's areas are estimates, so that there are no curves to draw."""
    return any(auto(e.scores[metric].params) for e in run.explanations if metric in e.scores)
