"""What the page shows of scores: the table's cells with their interval marks, and the panels of curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai import evaluation
from crossxai.evaluation import statistics
from crossxai.files import Explanation
from crossxai.report import words
from crossxai.report.analysis import Row, Test, mean_curve
from crossxai.report.contents import Contents
from crossxai.report.plots import pictures, style
from crossxai.report.region_findings import region
from crossxai.report.run import CONTROLS, CURVES, RANDOM, Run

RESAMPLES = 500  # of the shaded intervals, which nobody reads to three digits


@dataclass(frozen=True)
class Mark:
    """A difference with its interval as places on a line from 0 to 100, with no difference at 50."""

    dot: float
    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """One metric in the table, by its label; kind: its own name.

    compared: whether it has a column for the difference to random. limits: what it can be.
    """

    metric: str
    kind: str
    title: str
    hint: str
    better: str
    compared: bool
    reach: float
    digits: int
    limits: str


def columns(contents: Contents) -> list[Column]:
    """The metrics of a run as columns of its table."""
    found = []
    ranges = {entry.name: getattr(entry.metric, "range", (None, None)) for entry in evaluation.discover()}
    for metric in contents.run.metrics:
        cells = [r.cells[metric] for r in contents.rows if metric in r.cells]
        tests = [c.versus for c in cells if c.versus is not None]
        ends = [abs(x) for t in tests for x in (t.low, t.high, t.difference) if math.isfinite(x)]
        areas = [c.area for c in cells if math.isfinite(c.area)]
        shares = bool(areas)
        name = region(contents.run, metric) if shares else words.metric(metric)
        name = name.removeprefix("the ")
        title = words.capital(words.metric(metric)) + (" area" if metric in CURVES else "")
        found.append(
            Column(
                metric,
                contents.run.kinds[metric],
                f"{title}{of_modality(contents.run, metric)}",
                f"{name}, area {words.percent(areas[0])}" if shares else "",
                "higher is better" if cells[0].higher_is_better else "lower is better",
                bool(tests) and not shares,
                max(ends, default=1.0) or 1.0,
                0 if shares else 3,
                words.limits(*ranges.get(contents.run.kinds[metric], (None, None))),
            )
        )
    return found


def of_modality(run: Run, metric: str) -> str:
    """Whose maps a metric judges, where there are several modalities: ` of image`; else nothing."""
    name = run.modality(metric)
    # A label that the experiment gives says what there is to say.
    return f" of {name}" if name and run.kinds[metric] == metric and len(run.samples.modalities) > 1 else ""


def mark(test: Test | None, reach: float) -> Mark | None:
    """A test as places on a line; None if there is nothing to draw."""
    if test is None or not math.isfinite(test.difference):
        return None

    def place(value: float) -> float:
        return round(50 + 46 * value / reach, 2) if math.isfinite(value) else 50 + 46 * test.difference / reach

    return Mark(place(test.difference), place(test.low), place(test.high))


def verdict(test: Test | None) -> str:
    """A test's verdict as one of the page's class names."""
    return {"better": "better", "worse": "worse"}.get(test.verdict, "same") if test else "same"


def curve_groups(contents: Contents) -> list[dict[str, Any]]:
    """Per metric with curves of a score: per model, one panel of curves per library, and the caption's words."""
    groups = []
    for metric in contents.run.metrics:
        if not _over_units(contents.run, metric):
            continue
        models = []
        for model in contents.run.models:
            panels = _panels(contents, metric, model, _limits(contents.run, metric))
            if panels:
                models.append({"model": model, "panels": panels})
        if models:
            groups.append({"metric": metric, "models": models})
    return groups


def _over_units(run: Run, metric: str) -> bool:
    """Whether a metric's curves are of a score as units change, and not of thresholds or layers."""
    found = [e.scores[metric].params for e in run.explanations if metric in e.scores]
    return all(params.get("curve_over", "units") == "units" for params in found)


def _limits(run: Run, metric: str) -> tuple[float, float]:
    """The vertical axis of a metric's panels: from zero, unless the curves then huddle in a corner."""
    means = [c[1].mean(axis=0) for e in run.explanations if (c := mean_curve(e, metric)) is not None]
    low = min((float(m.min()) for m in means), default=0.0)
    high = max((float(m.max()) for m in means), default=1.0)
    pad = 0.08 * (high - low) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - pad), high + pad


def _panels(contents: Contents, metric: str, model: str, limits: tuple[float, float]) -> list[dict[str, Any]]:
    run = contents.run
    explanations = run.of(model)
    rows = {r.label: r for r in contents.rows if r.model == model}
    found = {label: c for label, e in explanations.items() if (c := mean_curve(e, metric)) is not None}
    control = [_line(*found[RANDOM], number=0, shaded=True)] if RANDOM in found else []
    panels = []
    for library in dict.fromkeys(explanations[label].library for label in found):
        chosen = _by_area([x for x in found if explanations[x].library == library and x != RANDOM], rows, metric)
        if not chosen:
            continue
        faint = [x for x in found if explanations[x].library not in (library, CONTROLS)]
        lines = [_line(*found[x], number=i, shaded=i == 0) for i, x in enumerate(chosen)]
        others = [_line(*found[x], number=0, shaded=False) for x in faint]
        share = "pixels" if all(m.spatial for m in run.samples.modalities) else "units"
        done = {"deletion": "removed", "insertion": "put back"}.get(run.kinds[metric], "changed")
        title = "Controls" if library == CONTROLS else words.library(library)
        panels.append(
            {
                "title": title,
                "image": pictures.curves(lines, control, others, f"{share} {done}", "mean score", limits),
                "alt": _alt(title, metric, model, chosen, rows),
                "legend": [_legend(explanations[x], i, rows[x], metric) for i, x in enumerate(chosen)],
            }
        )
    return panels


def _by_area(labels: Sequence[str], rows: dict[str, Row], metric: str) -> list[str]:
    """Best first; the legend reads in the order of the curves."""
    sign = -1 if any(rows[x].cells[metric].higher_is_better for x in labels) else 1

    def key(label: str) -> float:
        mean = rows[label].cells[metric].summary.mean
        return sign * mean if math.isfinite(mean) else math.inf

    return sorted(labels, key=key)


def _line(grid: Any, curves: Any, number: int, shaded: bool) -> pictures.Line:
    if not shaded or len(curves) < 2:
        return pictures.Line(grid, curves.mean(axis=0), number)
    bounds = [statistics.summarise(point, resamples=RESAMPLES) for point in curves.T]
    low, high = np.array([b.low for b in bounds]), np.array([b.high for b in bounds])
    return pictures.Line(grid, curves.mean(axis=0), number, low, high)


def _legend(explanation: Explanation, number: int, row: Row, metric: str) -> dict[str, str]:
    shade, dash = style.line_style(number)
    pattern = "" if dash == "solid" else " ".join(str(3 * part) for part in dash[1])
    mean = words.number(row.cells[metric].summary.mean)
    return {"label": explanation.label, "colour": shade, "dash": pattern, "area": mean}


def _alt(title: str, metric: str, model: str, labels: Sequence[str], rows: dict[str, Row]) -> str:
    areas = [f"{x} {words.number(rows[x].cells[metric].summary.mean)}" for x in labels]
    return f"Mean {metric} curves of {title} on {model}; areas: {words.listing(areas)}."
