"""Tables of scores: which metrics share one, their columns, what they mean, and each difference to random as a mark on a line.

A small run has one table, a larger one a table per axis of quality, with what the axis asks in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from crossxai import evaluation
from crossxai.attribution import Axis
from crossxai.report import words
from crossxai.report.analysis import Test
from crossxai.report.contents import Contents
from crossxai.report.reference_findings import region
from crossxai.report.run import CURVES, RunRecord

WIDEST = 6  # columns of means and of differences side by side that a page of ordinary width shows without scrolling
NOTES = {
    "faithfulness": "Does the map name what the model uses?",
    "localisation": "Does the map lie where the evidence is known to be?",
    "stability": "Does the map stay when little changes? A control never looks at the model, so it changes little or not at "
    "all: to be worse than random is no fault here, and to be stable no proof of being right.",
    "randomisation": "Does the map go when the model is destroyed, or another class is asked about? A control never looks at "
    "the model, so it stays; an explainer that is not better than random is not shown to look at what changed.",
    "complexity": "How concentrated or smooth is the map? That only describes it: a map of one pixel is the simplest, and may "
    "be wrong.",
    "cross-modal": "Does each modality get what the model, or the data, give it? A share has no better direction.",
    "axiomatic": "Does the map hold what its definition promises? Only some methods promise it; it is no fault of the others.",
}


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


@dataclass(frozen=True)
class Table:
    """Columns of one table. title, note: its axis, in words; "" where one table has all. maps: it has the maps' own columns."""

    title: str
    note: str
    columns: tuple[Column, ...]
    maps: bool

    @property
    def width(self) -> int:
        """Columns after the explainer's name."""
        return _width(self.columns) + 3 * self.maps


@dataclass(frozen=True)
class Meaning:
    """What a metric measures, with the parameters that this run used; kind: its own name. region: "" for no share of a map."""

    metric: str
    kind: str
    region: str
    purpose: str
    higher_is_better: bool
    settings: tuple[tuple[str, str], ...]


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
                _limits(*ranges.get(contents.run.kinds[metric], (None, None))),
            )
        )
    return found


def _limits(low: float | None, high: float | None) -> str:
    """What values a metric can have: `0 to 1`, `0 or more`; nothing if any."""
    if low is None:
        text = "" if high is None else f"up to {high:g}"
    else:
        text = f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
    return text.replace("-", words.MINUS)


def of_modality(run: RunRecord, metric: str) -> str:
    """Whose maps a metric judges, where there are several modalities: ` of image`; else nothing."""
    name = run.modality(metric)
    # A label that the experiment gives says what there is to say.
    return f" of {name}" if name and run.kinds[metric] == metric and len(run.samples.modalities) > 1 else ""


def tables(columns: Sequence[Column]) -> list[Table]:
    """One table for few metrics, else one or more per axis; what is of the maps alone has its own if there is no room."""
    if _width(columns) <= WIDEST:
        narrow = _width(columns) + 3 <= WIDEST + 1  # those of the maps hold little
        scores = Table("", "", tuple(columns), narrow)
        return [scores] if narrow else [scores, Table("Maps", "", (), True)]
    axes = {entry.name: axis for entry in evaluation.discover() if (axis := getattr(entry.metric, "axis", "")) in NOTES}
    found: list[Table] = []
    for axis in (*get_args(Axis), ""):
        chosen = [c for c in columns if axes.get(c.kind, "") == axis]
        parts = -(-_width(chosen) // WIDEST)
        for i in range(parts):
            # Parts of like size: four metrics are 2 and 2.
            part = chosen[i * len(chosen) // parts : (i + 1) * len(chosen) // parts]
            title = (axis or "other metrics").capitalize() + (f", {i + 1} of {parts}" if parts > 1 else "")
            found.append(Table(title, NOTES.get(axis, "") if i == 0 else "", tuple(part), False))
    return [*found, Table("Maps", "", (), True)]


def _width(columns: Sequence[Column]) -> int:
    return len(columns) + sum(c.compared for c in columns)


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


def meanings(run: RunRecord) -> list[Meaning]:
    """What each metric of a run measures."""
    hidden = {"auto_seed", "curve_over", "of_steps", "seed", *(["modality"] if len(run.samples.modalities) < 2 else [])}
    purposes = {entry.name: entry.purpose.partition(";")[0] for entry in evaluation.discover()}
    entries = []
    for metric in run.metrics:
        every, kind = [e.scores[metric] for e in run.explanations if metric in e.scores], run.kinds[metric]
        used = {k: v for k, v in every[0].params.items() if k not in hidden and v not in (None, "", [], {})}
        settings = tuple((key.replace("_", " "), words.value(value)) for key, value in used.items())
        shares = kind == "pointing" or any("area_share" in scores.extras for scores in every)
        name = region(run, metric) if shares else ""
        entries.append(Meaning(metric, kind, name, purposes.get(kind, ""), every[0].higher_is_better, settings))
    return entries
