"""The page's first screen: a forest plot of all explainers, samples with the maps of a few explainers, and the key numbers."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.files import Result
from crossxai.report import certainty, words
from crossxai.report.analysis import Row, scored
from crossxai.report.contents import Contents
from crossxai.report.run import RANDOM, RunRecord, is_control, ok
from crossxai.report.samples import Drawing, Sample
from crossxai.report.tables import of_modality, verdict

MOST_SAMPLES = 3
MOST_EXPLAINERS = 3
MOST_METRICS = 4  # columns of the forest plot
MOST_BARS = 4  # of a table, per map


@dataclass(frozen=True)
class Point:
    """One explainer on one model by one metric, its places in percent of the axis' width. shape: the number of its model.
    verdict: better, worse, or same. text: the same in words."""

    model: str
    shape: int
    dot: float
    low: float
    high: float
    verdict: str
    text: str


@dataclass(frozen=True)
class Axis:
    """One metric's column: its title, which way is better, where zero lies, and (place, text) of its ticks."""

    title: str
    better: str
    zero: float | None
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """One explainer: its points per axis, the mean value to sort by, and why there is none, if there is none."""

    label: str
    library: str
    control: bool
    points: tuple[tuple[Point, ...], ...]
    sort: tuple[float, ...]
    missing: str


@dataclass(frozen=True)
class Forest:
    """All explainers by their difference to the random control, best first, controls last. lacks: why it shows something else,
    such as means where no random control has scores; "" if it lacks nothing."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    models: tuple[str, ...]
    lacks: str


@dataclass(frozen=True)
class Strip:
    """Samples and a few explainers' maps of them, all of one model; rows: (explainer, one drawing per sample or None)."""

    model: str
    modality: str
    samples: tuple[Sample, ...]
    rows: tuple[tuple[str, tuple[Drawing | None, ...]], ...]


Numbers = tuple[float, float, float, str, str]  # centre, low, high, verdict, p in words


def forest(contents: Contents) -> Forest:
    """The forest plot: differences to random, or means where there is no random control with scores."""
    run = contents.run
    metrics = certainty.metrics(run)[:MOST_METRICS]
    compared = any(r.cells[m].versus for r in contents.rows for m in metrics if m in r.cells)
    lacks = ""
    if not metrics:
        lacks = "This run has no scores, so explainers cannot be compared."
    elif not compared:
        lacks = f"This run has no scored random control (`{RANDOM}`), so differences to it cannot be shown: these are means."
    axes, places = [], {}
    for metric in metrics:
        numbers = {(r.label, r.model): n for r in contents.rows if (n := _numbers(r, metric, compared)) is not None}
        axis, low, reach = _axis(run, contents.rows, metric, list(numbers.values()), compared)
        axes.append(axis)
        places[metric] = {key: _point(run, key[1], n, low, reach) for key, n in numbers.items()}
    lines = []
    for label in run.labels:
        own = [r for r in contents.rows if r.label == label]
        if label == RANDOM and compared:
            continue
        points = tuple(
            tuple(p for model in run.models if (p := places[m].get((label, model))) is not None) for m in metrics
        )
        missing = ""
        if not any(points):
            reasons = [f"{words.capital(r.status)}: {r.reason}" for r in own if r.status != "ok"]
            missing = words.shortened(reasons[0]) if reasons else "no scores"
        sort = tuple(float(np.mean([p.dot for p in own_points])) if own_points else math.nan for own_points in points)
        lines.append(Line(label, own[0].library, own[0].control, points, sort, missing))
    higher = not axes or axes[0].better.startswith("higher")
    return Forest(tuple(axes), tuple(sorted(lines, key=lambda x: _order(x, higher))), run.models, lacks)


def strip(contents: Contents, samples: Sequence[Sample]) -> Strip | None:
    """Three samples and the maps of up to three explainers; None where no map is there to show."""
    run = contents.run
    for model in run.models:
        labels = _telling(contents, model)
        for modality in sorted(run.samples.modalities, key=lambda m: not m.spatial):
            shown = _samples(run, samples)
            maps = {x: tuple(_drawing(sample, x, modality.name, model) for sample in shown) for x in labels}
            rows = tuple((label, drawings) for label, drawings in maps.items() if any(drawings))
            if rows:
                return Strip(model, modality.name, tuple(shown), rows)
    return None


def key_numbers(contents: Contents) -> dict[str, Any]:
    """What a reader in a hurry takes away. wins: by metric, how many explainers of how many beat random, a number per model.
    models_agree: the median rank correlation of deterministic explainers' maps between models, NaN if there is none."""
    wins = []
    for metric in contents.run.curves:
        cells = [(r.model, r.cells[metric].versus) for r in contents.rows if not r.control and metric in r.cells]
        verdicts = [(model, test.verdict) for model, test in cells if test and test.verdict != "no test"]
        total = Counter(model for model, _ in verdicts)
        won = Counter(model for model, verdict in verdicts if verdict == "better")
        if total:
            wins.append((metric, [won[model] for model in total], list(total.values())))
    pairs = [p.spearman.mean for p in contents.maps.models if not p.control and not p.stochastic]
    finite = [x for x in pairs if math.isfinite(x)]
    degenerate = sum(sum(r.degenerate.values()) for r in contents.rows)
    return {"wins": wins, "models_agree": statistics.median(finite) if finite else math.nan, "degenerate": degenerate}


def _telling(contents: Contents, model: str) -> list[str]:
    """The best by the run's first metric, each of another method and library where it can be; the verdict's best comes first."""
    usable = [e for e in contents.run.of(model).values() if ok(e) and e.maps and not is_control(e)]
    first = getattr(contents.verdict.facts, "best", "")
    rank: dict[str, float] = {}
    for metric in certainty.metrics(contents.run)[:1]:
        for row in scored(contents.rows, model, metric):
            cell = row.cells[metric]
            rank[row.label] = -cell.summary.mean if cell.higher_is_better else cell.summary.mean
    ordered = sorted(usable, key=lambda e: (e.label != first, rank.get(e.label, math.inf)))
    telling: list[Result] = []
    while ordered and len(telling) < MOST_EXPLAINERS:
        libraries, methods = {e.library for e in telling}, {_method(e) for e in telling}
        # The first of those that add most: another method before another library.
        telling.append(min(ordered, key=lambda e: (_method(e) in methods, e.library in libraries)))
        ordered.remove(telling[-1])
    return [e.label for e in telling]


def _method(explanation: Result) -> str:
    return explanation.attribution.explainer.rpartition(".")[2]


def _samples(run: RunRecord, samples: Sequence[Sample]) -> list[Sample]:
    """One of each class, the last classes and what models recognise first; of scores and regions, spread from low to high."""
    labels = np.asarray(run.samples.labels, dtype=np.float64)
    if run.samples.task != "classification":
        order = sorted(samples, key=lambda s: labels[s.number] if labels.ndim == 1 else s.number)
        places = np.unique(np.rint(np.linspace(0, len(order) - 1, min(MOST_SAMPLES, len(order)))).astype(int))
        return [order[i] for i in places]
    good = sorted(samples, key=lambda s: any(p["right"] is False for p in s.predictions))
    first = {float(labels[s.number]): s for s in reversed(good)}
    shown = sorted(first.values(), key=lambda s: -labels[s.number])[:MOST_SAMPLES]
    shown += [s for s in good if s not in shown][: MOST_SAMPLES - len(shown)]
    return shown


def _drawing(sample: Sample, label: str, modality: str, model: str) -> Drawing | None:
    tiles = (t for t in sample.tiles if (t.label, t.modality) == (label, modality))
    return next((d for t in tiles for d in t.drawings if d.model == model), None)


def _numbers(row: Row, metric: str, compared: bool) -> Numbers | None:
    cell = row.cells.get(metric)
    if cell is None:
        return None
    if compared:
        test = cell.versus
        if test is None or not math.isfinite(test.difference):
            return None
        return test.difference, test.low, test.high, verdict(test), f"{test.verdict}, {words.p_value(test.p_holm)}"
    if not math.isfinite(cell.summary.mean):
        return None
    return cell.summary.mean, cell.summary.low, cell.summary.high, "same", ""


def _axis(
    run: RunRecord, rows: Sequence[Row], metric: str, numbers: Sequence[Numbers], compared: bool
) -> tuple[Axis, float, float]:
    """A column's axis, its lowest value and its length."""
    ends = [x for n in numbers for x in n[:3] if math.isfinite(x)] + ([0.0] if compared else [])
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    pad = 0.06 * (high - low) or 0.5
    low, high = low - pad, high + pad
    cells = [r.cells[metric] for r in rows if metric in r.cells]
    better = "higher is better" if cells and cells[0].higher_is_better else "lower is better"
    title = words.capital(words.metric(metric)) + of_modality(run, metric)
    values = sorted({min(ends, default=0.0), max(ends, default=1.0), *([0.0] if compared else [])})
    # A tick too close to zero would write over its 0.
    values = [v for v in values if not compared or v == 0 or abs(v) > 0.3 * (high - low)]
    ticks = tuple((_place(v, low, high - low), ("+" if compared and v > 0 else "") + words.brief(v)) for v in values)
    return Axis(title, better, _place(0.0, low, high - low) if compared else None, ticks), low, high - low


def _point(run: RunRecord, model: str, numbers: Numbers, low: float, reach: float) -> Point:
    centre, start, end, outcome, tested = numbers
    start, end = (x if math.isfinite(x) else centre for x in (start, end))
    between = words.interval(numbers[1], numbers[2])
    value = words.number(centre) if not tested else words.signed(centre)
    text = f"{model}: {value}{f' ({between})' if between else ''}{f', {tested}' if tested else ''}"
    dot, left, right = (_place(x, low, reach) for x in (centre, start, end))
    return Point(model, run.models.index(model), dot, left, right, outcome, text)


def _place(value: float, low: float, reach: float) -> float:
    return round(100 * (value - low) / reach, 2)


def _order(line: Line, higher: bool) -> tuple[bool, bool, float]:
    """Best by the first axis first; what has no point after those that have one, controls last."""
    size = line.sort[0] if line.sort else math.nan
    return line.control, not math.isfinite(size), (-size if higher else size) if math.isfinite(size) else 0.0
