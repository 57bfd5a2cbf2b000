"""Findings about scores: who beats a random map, which explainer is best, and whose maps stay alike under noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from scipy.stats import spearmanr

from crossxai.report import analysis
from crossxai.report.analysis import Ends, Row, Scale, Verdict, alike_ends, changed, off_scale, scored, units
from crossxai.report.run import CURVES, RANDOM, RunRecord
from crossxai.report.words import Fact

STEADY = 0.95  # correlation under noise, above which a map counts as steady


@dataclass(frozen=True)
class Versus:
    """One explainer's mean of a metric against a random map's: the paired difference, its interval and its corrected p."""

    label: str
    mean: float
    control_mean: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    verdict: Verdict


@dataclass(frozen=True)
class BeatsRandom(Fact):
    """Whether explainers beat a random map by a curve. comparisons: by model, the largest difference first.

    family, n, counts, smallest_p: the comparisons that are corrected together, their samples or groups, and the smallest p
    that one of them can have; NaN if it can be significant. alike_ends, off_scale: models whose curves say little, see
    `analysis`. units: what is ranked, and changed, what happens to it.
    """

    alpha: ClassVar[float] = analysis.ALPHA
    metric: str
    place: int
    comparisons: Mapping[str, tuple[Versus, ...]]
    family: int
    n: int
    counts: str
    smallest_p: float
    units: str
    changed: str
    alike_ends: Mapping[str, Ends]
    off_scale: Mapping[str, Scale]

    @property
    def strongest(self) -> dict[str, Versus]:
        """Model → the explainer that is better than random by most."""
        return {
            m: better[0] for m, x in self.comparisons.items() if (better := [v for v in x if v.verdict == "better"])
        }

    def of(self, labels: Sequence[str], verdict: Verdict) -> list[Versus]:
        """The comparisons of these explainers that have this verdict, on any model."""
        every = [v for versus in self.comparisons.values() for v in versus]
        return [v for v in every if v.label in labels and v.verdict == verdict]


@dataclass(frozen=True)
class Mean:
    """An explainer's mean and its interval."""

    label: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Leader(Mean):
    """The explainer with the best mean of a metric on a model, and those that are not told apart from it."""

    level: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """How far deletion and insertion order n explainers alike: the rank correlation of their means."""

    n: int
    correlation: float


@dataclass(frozen=True)
class BestExplainers(Fact):
    """The best explainer by metric and model. orders: by pair of metrics and model."""

    leaders: Mapping[str, Mapping[str, Leader]]
    orders: tuple[tuple[str, str, Mapping[str, Order]], ...]


@dataclass(frozen=True)
class Steady(Fact):
    """Whose maps stay alike under noise: means of a correlation by model, and the mark that an interval must reach."""

    mark: ClassVar[float] = STEADY
    metric: str
    means: Mapping[str, tuple[Mean, ...]]


def facts(run: RunRecord, rows: Sequence[Row]) -> list[Fact]:
    """What scores say of explainers."""
    collected: list[Fact] = [
        BeatsRandom(
            models=run.models,
            metric=metric,
            place=place,
            comparisons=_comparisons(run, rows, metric),
            **_family(run, metric),
            units=units(run, metric),
            changed=changed(run, metric),
            alike_ends=alike_ends(run, metric),
            off_scale=off_scale(run, metric),
        )
        for place, metric in enumerate(run.curves)
    ]
    if leaders := _leaders(run, rows):
        collected.append(BestExplainers(models=run.models, leaders=leaders, orders=_orders(run, rows)))
    for metric in (m for m in run.metrics if run.kinds[m] == "noise_correlation"):
        if means := means_of(run, rows, metric):
            collected.append(Steady(models=run.models, metric=metric, means=means))
    return collected


def means_of(run: RunRecord, rows: Sequence[Row], metric: str) -> dict[str, tuple[Mean, ...]]:
    """Model → the means of its explainers by a metric; models without any left out."""
    means = {
        model: tuple(
            Mean(r.label, s.mean, s.low, s.high) for r in scored(rows, model, metric) if (s := r.cells[metric].summary)
        )
        for model in run.models
    }
    return {model: listed for model, listed in means.items() if listed}


def _comparisons(run: RunRecord, rows: Sequence[Row], metric: str) -> dict[str, tuple[Versus, ...]]:
    comparisons = {}
    for model in run.models:
        means = {r.label: r.cells[metric].summary.mean for r in rows if r.model == model and metric in r.cells}
        versus = [
            Versus(r.label, means[r.label], means[RANDOM], t.difference, t.low, t.high, t.p_holm, t.n, t.verdict)
            for r in scored(rows, model, metric)
            if (t := r.cells[metric].versus)
        ]
        if versus:
            comparisons[model] = tuple(sorted(versus, key=lambda v: -abs(v.difference)))
    return comparisons


def _family(run: RunRecord, metric: str) -> dict[str, Any]:
    """The comparisons of the first model on which no result could be significant: too few samples for so many comparisons."""
    for model in run.models:
        tests = analysis.against(run, model, metric, RANDOM)
        smallest = analysis.least_p(tests)
        if smallest >= analysis.ALPHA:
            return {"family": len(tests), **analysis.counted(tests), "smallest_p": smallest}
    return {"family": 0, "n": 0, "counts": "sample", "smallest_p": math.nan}


def _leaders(run: RunRecord, rows: Sequence[Row]) -> dict[str, dict[str, Leader]]:
    """The best explainer by each curve, and those that cannot be told apart from it."""
    leaders: dict[str, dict[str, Leader]] = {}
    for metric in run.curves:
        for model in run.models:
            leader = analysis.best(rows, model, metric)
            tests = analysis.against(run, model, metric, leader.label, libraries_only=True) if leader else {}
            if leader and tests:
                mean = leader.cells[metric].summary
                level = tuple(x for x, t in tests.items() if t.verdict == "not told apart")
                leaders.setdefault(metric, {})[model] = Leader(leader.label, mean.mean, mean.low, mean.high, level)
    return leaders


def _orders(run: RunRecord, rows: Sequence[Row]) -> tuple[tuple[str, str, Mapping[str, Order]], ...]:
    """How far the two kinds of curves of one modality order explainers alike."""
    kinds = {kind: [m for m in run.curves if run.kinds[m] == kind] for kind in CURVES}
    pairs = []
    for deletion, insertion in product(*kinds.values()):
        orders = {}
        for model in run.models if run.modality(deletion) == run.modality(insertion) else ():
            both = [r for r in scored(rows, model, deletion) if r in scored(rows, model, insertion)]
            if len(both) > 3:
                means = [[sign * r.cells[m].summary.mean for r in both] for m, sign in ((deletion, -1), (insertion, 1))]
                constant = any(np.ptp(x) == 0 for x in means)  # of which there is no rank correlation
                correlation = math.nan if constant else float(spearmanr(*means).statistic)
                if math.isfinite(correlation):
                    orders[model] = Order(len(both), correlation)
        if orders:
            pairs.append((deletion, insertion, orders))
    return tuple(pairs)
