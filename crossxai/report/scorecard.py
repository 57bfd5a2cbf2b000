"""The scorecard: per model, every explainer's figures on the axes of quality, one narrow table per axis, the controls last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from crossxai import evaluation
from crossxai.attribution import Scores
from crossxai.evaluation import statistics
from crossxai.evaluation.metrics.modality import DROP
from crossxai.report import words
from crossxai.report.analysis import Cell, Row
from crossxai.report.run import RunRecord
from crossxai.report.score_findings import STEADY
from crossxai.report.tables import split

AXES = ("faithfulness", "localisation", "stability", "cross-modal")
LEAST = 3  # axes, of a scorecard that deserves the name


@dataclass(frozen=True)
class Column:
    """One metric as a column: its label in the run, its name and modality as its title, which way is better ("" for neither)."""

    label: str
    title: str
    better: str
    mark: float = math.nan
    axis: str = ""


@dataclass(frozen=True)
class Figure:
    """One cell. note: "not told apart from random", the threshold, the mark. missing: why there is no figure."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    best: bool = False
    notes: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Line:
    """One explainer's figures, in the columns' order."""

    label: str
    library: str
    control: bool
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Table:
    """One axis, or a part of it, of one model; axis: the one that it is the first table of. reasons: why figures are missing."""

    title: str
    axis: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Scorecard:
    """Every axis of one model."""

    model: str
    tables: tuple[Table, ...]


def scorecards(run: RunRecord, rows: Sequence[Row]) -> list[Scorecard]:
    """One per model with figures; none for a run of fewer than three axes."""
    axes = {entry.name: getattr(entry.metric, "axis", "") for entry in evaluation.discover()}
    scores = {label: _first(run, label) for label in run.metrics}
    by_axis = {axis: [x for x, s in scores.items() if axes.get(s.metric, "") == axis] for axis in AXES}
    by_axis = {axis: labels for axis, labels in by_axis.items() if labels}
    if len(by_axis) < LEAST:
        return []
    cards = []
    for model in run.models:
        own = [r for r in rows if r.model == model and r.status == "ok" and r.cells]
        tables = (_tables(run, model, own, axis, labels, scores) for axis, labels in by_axis.items())
        if own:
            cards.append(Scorecard(model, tuple(chain.from_iterable(tables))))
    return cards


def frames(card: Scorecard) -> dict[str, pd.DataFrame]:
    """A scorecard's tables by title, as data frames: a row per explainer, a column per metric, means with intervals as text,
    the best with a star, "–" where there is no figure."""
    by_title = {}
    for table in card.tables:
        cells = [[_text(figure) for figure in line.figures] for line in table.lines]
        heads = [f"{c.title} ({c.better})" if c.better else c.title for c in table.columns]
        by_title[table.title] = pd.DataFrame(cells, [line.label for line in table.lines], heads)
    return by_title


def _text(figure: Figure) -> str:
    if not math.isfinite(figure.mean):
        return words.NONE
    between = words.interval(figure.low, figure.high)
    return words.number(figure.mean) + (f" ({between})" if between else "") + (" *" if figure.best else "")


def _tables(
    run: RunRecord, model: str, rows: Sequence[Row], axis: str, labels: Sequence[str], scores: Mapping[str, Scores]
) -> list[Table]:
    """The tables of one axis: parts of like width where it has many metrics."""
    titles = _titles(run, labels, scores)
    tables: list[Table] = []
    heading = "Plausibility" if axis == "localisation" else axis.capitalize()
    for title, part in split(labels, heading, len(labels)):
        columns = [_column(scores[x], x, titles[x]) for x in part]
        best = {c.label: _best(rows, c) for c in columns}
        reasons: dict[str, None] = {}
        lines = []
        for row in rows:
            figures = [_figure(run, model, row, c, best[c.label]) for c in columns]
            for column, figure in zip(columns, figures, strict=True):
                if figure.missing:
                    reasons[f"`{row.label}`, {column.title}: {figure.missing}"] = None
            if any(math.isfinite(f.mean) or f.missing for f in figures):
                lines.append(Line(row.label, row.library, row.control, tuple(figures)))
        tables.append(Table(title, "" if tables else axis, tuple(columns), tuple(lines), tuple(reasons)))
    return tables


def _first(run: RunRecord, label: str) -> Scores:
    return next(e.scores[label] for e in run.explanations if label in e.scores)


def _titles(run: RunRecord, labels: Sequence[str], scores_of: Mapping[str, Scores]) -> dict[str, str]:
    """The labels that an experiment gives; else metric and modality, and its own name where two would be called the same."""
    several = len(run.samples.modalities) > 1
    titles = {}
    for label in labels:
        scores = scores_of[label]
        modality, of = str(scores.params.get("modality") or ""), scores.params.get("of")
        title = words.capital(words.metric(scores.metric))
        title += f" by {of}" if isinstance(of, str) else ""
        titles[label] = f"{title}, {modality}" if several and modality else title
        if label != scores.metric:
            titles[label] = words.capital(words.metric(label))
    taken = list(titles.values())
    return {x: t if taken.count(t) == 1 else words.capital(words.metric(x)) for x, t in titles.items()}


def _column(scores: Scores, label: str, title: str) -> Column:
    kind = next((e.metric for e in evaluation.discover() if e.name == scores.metric), None)
    axis = str(getattr(kind, "axis", ""))
    if getattr(kind, "describes", False):
        return Column(label, title, "", axis=axis)
    better = "higher is better" if scores.higher_is_better else "lower is better"
    marked = scores.metric == "noise_correlation" and scores.params.get("similarity", "pearson") == "pearson"
    return Column(label, title, better, STEADY if marked else math.nan, axis)


def _best(rows: Sequence[Row], column: Column) -> float:
    """The best mean of any library's explainer, NaN where no direction is better."""
    own = [r.cells[column.label].summary for r in rows if not r.control and column.label in r.cells]
    # A mean over some of the samples, because other maps are zero, is no fair rival of means over all.
    most = max((s.n for s in own), default=0)
    means = [s.mean for s in own if s.n == most and math.isfinite(s.mean)]
    if not means or not column.better:
        return math.nan
    return max(means) if column.better.startswith("higher") else min(means)


def _figure(run: RunRecord, model: str, row: Row, column: Column, best: float) -> Figure:
    cell, scores = row.cells.get(column.label), run.of(model)[row.label].scores.get(column.label)
    if cell is None or scores is None or not cell.summary.n:
        return Figure(missing=_reason(run, model, row, column, scores))
    mean, notes = cell.summary, tuple(_notes(row, cell, scores, column))
    return Figure(mean.mean, mean.low, mean.high, not row.control and mean.mean == best, notes)


def _reason(run: RunRecord, model: str, row: Row, column: Column, scores: Scores | None) -> str:
    """Why a figure is missing: the refusal of the metric, what the manifest says, what the maps lack."""
    if scores is not None:
        refusal = scores.params.get("refused")
        return str(refusal) if refusal else "no sample has a value"
    refused = run.entry(model).get("refused") or {}
    for key in (column.label, f"{column.label} of {row.label}"):
        if key in refused:
            return str(refused[key])
    modality = str(_first(run, column.label).params.get("modality") or "")
    if modality and modality not in run.of(model)[row.label].maps:
        return f"no map of {modality}"
    if DROP in run.of(model)[row.label].attribution.extras:
        return "one number per modality orders no pixels"
    return "the experiment does not ask for it"


def _notes(row: Row, cell: Cell, scores: Scores, column: Column) -> Iterator[str]:
    """What a figure alone does not say: its test against random, its best threshold, whether it is steady, what has no value."""
    mean, mark = cell.summary, column.mark
    # A random map is as steady as can be: to be worse is no fault.
    tested = column.better and column.axis != "stability" and not row.control
    outcome = cell.versus.verdict if cell.versus and tested else ""
    if outcome in ("not told apart", "worse"):
        yield f"{outcome} {'from' if outcome == 'not told apart' else 'than'} random"
    if "best_threshold" in scores.extras and scores.params.get("take", "best") == "best":
        # Where a swept overlap is best: the mean over samples of each one's own best threshold.
        at = statistics.summarise(scores.extras["best_threshold"]).mean
        if math.isfinite(at) and scores.params.get("by") == "value":
            yield f"best above {words.percent(1 - at)} of the range"
        elif math.isfinite(at):
            yield f"best at the top {words.percent(at, 0 if at >= 0.1 else 1)}"
    if math.isfinite(mark) and not (math.isfinite(mean.low) and math.isfinite(mean.high)):
        yield f"{'reaches' if mean.mean >= mark else 'below'} {mark:g}, no interval"
    elif math.isfinite(mark):
        inside = f"{mark:g} is inside the interval"
        yield f"meets {mark:g}" if mean.low >= mark else f"below {mark:g}" if mean.high < mark else inside
    if mean.n_missing:
        yield f"{mean.n} of {mean.n + mean.n_missing} maps"
