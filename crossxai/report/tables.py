"""Tables of scores: their columns and what they mean. A small run has one table, a larger one a table per axis of quality."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from crossxai import evaluation
from crossxai.attribution import Axis
from crossxai.report import words
from crossxai.report.analysis import Test
from crossxai.report.contents import Contents
from crossxai.report.reference_findings import region
from crossxai.report.run import CURVES, RunRecord

T = TypeVar("T")
WIDEST = 6  # columns of means and of differences side by side that a page of ordinary width shows without scrolling


@dataclass(frozen=True)
class Column:
    """One metric in the table, by its label; kind: its own name. compared: whether it has a column for the difference to random.
    limits: what it can be."""

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
    """Columns of one table. title: its axis, "" where one table has all; axis: the one that it is the first table of. maps: it
    has the maps' own columns."""

    title: str
    axis: str
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
    listed = []
    ranges = {entry.name: getattr(entry.metric, "range", (None, None)) for entry in evaluation.discover()}
    for metric in contents.run.metrics:
        cells = [r.cells[metric] for r in contents.rows if metric in r.cells]
        tests = [c.versus for c in cells if c.versus is not None]
        ends = [abs(x) for t in tests for x in (t.low, t.high, t.difference) if math.isfinite(x)]
        areas = [c.area for c in cells if math.isfinite(c.area)]
        name = region(contents.run, metric).removeprefix("the ") if areas else ""
        title = words.capital(words.metric(metric)) + (" area" if metric in CURVES else "")
        listed.append(
            Column(
                metric,
                contents.run.kinds[metric],
                f"{title}{of_modality(contents.run, metric)}",
                f"{name}, area {words.percent(areas[0])}" if areas else "",
                "higher is better" if cells[0].higher_is_better else "lower is better",
                bool(tests) and not areas,
                max(ends, default=1.0) or 1.0,
                0 if areas else 3,
                _limits(*ranges.get(contents.run.kinds[metric], (None, None))),
            )
        )
    return listed


def _limits(low: float | None, high: float | None) -> str:
    """What values a metric can have: `0 to 1`, `0 or more`; nothing if any."""
    if low is None:
        text = "" if high is None else f"up to {high:g}"
    else:
        text = f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
    return text.replace("-", words.MINUS)


def of_modality(run: RunRecord, metric: str) -> str:
    """Whose maps a metric measures, where there are several modalities: ` of image`; else nothing."""
    name = run.modality(metric)
    # A label that the experiment gives says what there is to say.
    return f" of {name}" if name and run.kinds[metric] == metric and len(run.samples.modalities) > 1 else ""


def tables(columns: Sequence[Column]) -> list[Table]:
    """One table for few metrics, else one or more per axis; what is of the maps alone has its own if there is no room."""
    if _width(columns) <= WIDEST:
        narrow = _width(columns) + 3 <= WIDEST + 1  # those of the maps hold little
        scores = Table("", "", tuple(columns), narrow)
        return [scores] if narrow else [scores, Table("Maps", "", (), True)]
    axes = {entry.name: axis for entry in evaluation.discover() if (axis := getattr(entry.metric, "axis", ""))}
    listed: list[Table] = []
    for axis in (*get_args(Axis), ""):
        chosen = [c for c in columns if axes.get(c.kind, "") == axis]
        for title, part in split(chosen, (axis or "other metrics").capitalize(), _width(chosen)):
            first = bool(chosen) and part[0] is chosen[0]
            listed.append(Table(title, axis if first else "", tuple(part), False))
    return [*listed, Table("Maps", "", (), True)]


def split(items: Sequence[T], title: str, width: int) -> Iterator[tuple[str, Sequence[T]]]:
    """(title, items) of as many tables as such a width needs, all of like size: four metrics are 2 and 2."""
    n = -(-width // WIDEST)
    for i in range(n):
        numbered = f"{title}, {i + 1} of {n}" if n > 1 else title
        yield numbered, items[i * len(items) // n : (i + 1) * len(items) // n]


def _width(columns: Sequence[Column]) -> int:
    return len(columns) + sum(c.compared for c in columns)


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
