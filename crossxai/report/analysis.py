"""Tables from numbers: every explainer's scores, against a control of the same model and against chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crossxai.attribution import Scores
from crossxai.evaluation import statistics
from crossxai.evaluation.statistics import Comparison, Summary
from crossxai.files import Result
from crossxai.model import Array
from crossxai.report.run import ORACLE, RANDOM, RunRecord, is_control, ok

Verdict = Literal["better", "worse", "not told apart", "no test"]
ALPHA = 0.05
HITS = "pointing"  # a metric of ones and zeros
SMALL = 0.2  # of the larger end: the ends of the curves are alike
FAR = 1.0  # widths of the scores of whole inputs, outside them: the model extrapolates


@dataclass(frozen=True)
class Test:
    """A paired comparison with its p corrected by Holm for the family it was made in."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    verdict: Verdict
    n_groups: int = 0


@dataclass(frozen=True)
class Cell:
    """One metric of one explainer on one model. versus: against random; area: the share of area that chance gives,
    and against_area the test of it, both only for metrics that are shares of a map."""

    summary: Summary
    higher_is_better: bool
    versus: Test | None = None
    area: float = math.nan
    against_area: Test | None = None


@dataclass(frozen=True)
class Row:
    """One explainer on one model; no cells when it is unsupported, for the reason it gives."""

    model: str
    framework: str
    label: str
    explainer: str
    library: str
    profile: str
    control: bool
    params: Mapping[str, Any]
    cells: Mapping[str, Cell]
    maps: int
    degenerate: Mapping[str, int]
    tie_rate: float
    seconds: float
    status: str
    reason: str


@dataclass(frozen=True)
class Ends:
    """The mean scores at both ends of a model's curves, and the mean curves' extreme if it lies far beyond both, else NaN."""

    start: float
    end: float
    extreme: float


@dataclass(frozen=True)
class Scale:
    """The lowest and the highest score of whole inputs, and of the mean curves."""

    low: float
    high: float
    lowest: float
    highest: float


def table(run: RunRecord) -> tuple[Row, ...]:
    """One row per model and explainer, in the run's order of models, libraries first, controls last."""
    rows = []
    for model in run.models:
        explanations = run.of(model)
        tests = {metric: against(run, model, metric, RANDOM) for metric in run.metrics}
        chance = {metric: _against_area(explanations, metric, run.groups) for metric in run.metrics}
        for label, explanation in explanations.items():
            cells = {}
            for name in (m for m in run.metrics if m in explanation.scores):
                scores, versus, of_area = explanation.scores[name], tests[name].get(label), chance[name].get(label)
                summary = summarised(scores, run.groups)
                cells[name] = Cell(summary, scores.higher_is_better, versus, area_share(scores), of_area)
            rows.append(_row(explanation, cells))
    return tuple(rows)


def area_share(scores: Scores) -> float:
    """The mean share of the area over the samples that a metric is defined for; NaN for other metrics."""
    if "area_share" not in scores.extras:
        return math.nan
    return _mean(np.where(np.isfinite(scores.value), scores.extras["area_share"], math.nan))


def _row(explanation: Result, cells: Mapping[str, Cell]) -> Row:
    ties = [s.extras["tie_rate"] for s in explanation.scores.values() if "tie_rate" in s.extras]
    # Where there is no truth to mark, the oracle has no map: that is no map gone wrong.
    unasked = explanation.degenerate.count("nan") if explanation.attribution.explainer == ORACLE else 0
    kinds = Counter(kind for kind in explanation.degenerate if kind and not (unasked and kind == "nan"))
    return Row(
        model=explanation.model,
        framework=explanation.framework,
        label=explanation.label,
        explainer=explanation.attribution.explainer,
        library=explanation.library,
        profile=explanation.attribution.profile,
        control=is_control(explanation),
        params=explanation.attribution.params,
        cells=cells,
        maps=len(explanation.ids) - unasked if ok(explanation) else 0,
        degenerate=dict(kinds),
        tie_rate=_mean(ties[0]) if ties else math.nan,
        seconds=explanation.attribution.seconds,
        status=explanation.status,
        reason=explanation.reason,
    )


def against(run: RunRecord, model: str, metric: str, control: str, libraries_only: bool = False) -> dict[str, Test]:
    """Every other explainer of a model against one of them, on the same samples; one family for Holm's correction."""
    own = {label: e for label, e in run.of(model).items() if metric in e.scores}
    if control not in own:
        return {}
    others = [x for x, e in own.items() if x != control and not (libraries_only and is_control(e))]
    comparisons = [run.comparison(model, metric, label, control) for label in others]
    return _family(others, comparisons, own[control].scores[metric].higher_is_better)


def summarised(scores: Scores, groups: statistics.Groups | None = None) -> Summary:
    """The mean of scores with its interval; of hits, the interval of a share."""
    return statistics.summarise(scores.value, groups=groups, hits=scores.metric == HITS)


def compared(scores: Mapping[str, Scores], control: str, groups: statistics.Groups | None = None) -> dict[str, Test]:
    """Every explainer's scores of one metric against the control's, on the same samples; nothing where it has none."""
    if control not in scores:
        return {}
    baseline = scores[control]
    others = {label: s for label, s in scores.items() if label != control}
    higher = baseline.higher_is_better
    comparisons = [statistics.compare(s.value, baseline.value, higher, groups=groups) for s in others.values()]
    return _family(list(others), comparisons, higher)


def _against_area(explanations: Mapping[str, Result], metric: str, groups: statistics.Groups | None) -> dict[str, Test]:
    """Every explainer's share of a region against the region's share of the area."""
    scores = {x: e.scores[metric] for x, e in explanations.items() if metric in e.scores}
    shares = {x: s for x, s in scores.items() if "area_share" in s.extras}
    tests = [statistics.compare(s.value, s.extras["area_share"], True, groups=groups) for s in shares.values()]
    return _family(list(shares), tests, True)


def _family(labels: Sequence[str], comparisons: Sequence[Comparison], higher: bool) -> dict[str, Test]:
    corrected = statistics.holm([c.p for c in comparisons]) if comparisons else np.empty(0)
    return {
        label: Test(c.difference, c.low, c.high, c.p, p, c.n, _verdict(c.difference, p, higher), c.n_groups)
        for label, c, p in zip(labels, comparisons, corrected.tolist(), strict=True)
    }


def _verdict(difference: float, p: float, higher: bool) -> Verdict:
    if not math.isfinite(p):
        return "no test"
    if p >= ALPHA:
        return "not told apart"
    return "better" if (difference > 0) == higher else "worse"


def smallest_p(n: int, family: int) -> float:
    """The smallest Holm-corrected p that `family` sign-flip tests on n samples or groups can reach for their strongest member."""
    exact = 2.0 ** (1 - n)
    return min(1.0, max(exact, 1e-4) * family)


def counted(tests: Mapping[str, Test]) -> dict[str, Any]:
    """How many samples (n), or groups of them, these tests have, and which of the two (counts)."""
    groups = max(t.n_groups for t in tests.values())
    return {"n": groups or max(t.n for t in tests.values()), "counts": "group" if groups else "sample"}


def least_p(tests: Mapping[str, Test]) -> float:
    """The smallest corrected p that any of these tests can have, with so many samples or groups; NaN without tests."""
    return smallest_p(max(t.n_groups or t.n for t in tests.values()), len(tests)) if tests else math.nan


def mean_curve(explanation: Result, metric: str, points: int = 49) -> tuple[Array, Array] | None:
    """(fractions, curves (n, points)) on one grid for every sample, NaN samples left out; None without a curve."""
    scores = explanation.scores.get(metric)
    if scores is None or scores.curve is None or scores.fractions is None:
        return None
    grid = np.linspace(0.0, 1.0, points)
    table = np.asarray(scores.curve)
    usable = np.isfinite(table).all(axis=1)
    if not usable.any():
        return None
    if scores.fractions.ndim == 1:  # as those of all curves: the same weights of the same points
        weights = [np.interp(grid, scores.fractions, point) for point in np.eye(len(scores.fractions))]
        return grid, table[usable] @ np.stack(weights)
    curves = [np.interp(grid, x, y) for x, y in zip(scores.fractions[usable], table[usable], strict=True)]
    return grid, np.stack(curves)


def alike_ends(run: RunRecord, metric: str) -> dict[str, Ends]:
    """Models whose curves end about where they start: no order can make much difference, unless half removed moves the model
    more than wholly removed."""
    ends = {}
    for model, curves in _curves(run, metric).items():
        # All curves of a model share both ends: nothing changed, and everything changed.
        start, end = float(curves[0][0]), float(curves[0][-1])
        size = max(abs(start), abs(end))
        if abs(end - start) >= SMALL * size:
            continue
        lowest, highest = float(np.min(curves)), float(np.max(curves))
        below, above = min(start, end) - lowest, highest - max(start, end)
        extreme = math.nan if max(below, above) <= SMALL * size else lowest if below >= above else highest
        ends[model] = Ends(start, end, extreme)
    return ends


def off_scale(run: RunRecord, metric: str) -> dict[str, Scale]:
    """Models of a regression whose curves leave the scores of whole inputs by far: they are fed what they never saw."""
    scales: dict[str, Scale] = {}
    if getattr(run.samples, "task", "classification") != "regression":
        return scales
    for model, curves in _curves(run, metric).items():
        one = next(c for e in run.of(model).values() if (c := mean_curve(e, metric)) is not None)[1]
        whole = one[:, 0] if run.kinds[metric] == "deletion" else one[:, -1]
        low, high = float(whole.min()), float(whole.max())
        lowest, highest = float(np.min(curves)), float(np.max(curves))
        if min(lowest - low, high - highest) < -FAR * (high - low) and len(whole) > 1:
            scales[model] = Scale(low, high, lowest, highest)
    return scales


def changed(run: RunRecord, metric: str) -> str:
    """What a curve does to units, step by step."""
    return "removed" if run.kinds[metric] == "deletion" else "put back"


def units(run: RunRecord, metric: str) -> str:
    """What is ranked: pixels of an image, columns of a table."""
    name = run.modality(metric)
    kinds = {"pixels" if m.spatial else "columns" for m in run.samples.modalities if name in ("", m.name)}
    return kinds.pop() if len(kinds) == 1 else "units"


def _curves(run: RunRecord, metric: str) -> dict[str, list[Array]]:
    """Model → the mean curves of its explainers; models without any left out."""
    by_model = {
        model: [c[1].mean(axis=0) for e in run.of(model).values() if (c := mean_curve(e, metric)) is not None]
        for model in run.models
    }
    return {model: curves for model, curves in by_model.items() if curves}


def scored(rows: Sequence[Row], model: str, metric: str) -> list[Row]:
    """The library rows of a model that have a mean of a metric."""
    return [
        r
        for r in rows
        if r.model == model and not r.control and metric in r.cells and math.isfinite(r.cells[metric].summary.mean)
    ]


def best(rows: Sequence[Row], model: str, metric: str) -> Row | None:
    """The library row of a model with the best mean of a metric; None if no library row has one."""
    own = scored(rows, model, metric)
    sign = 1 if own and own[0].cells[metric].higher_is_better else -1
    return max(own, key=lambda r: sign * r.cells[metric].summary.mean, default=None)


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan
