"""Tables for the terminal: a run's means, and its means by preset, no wider than the terminal is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import pandas as pd
from rich import box
from rich.table import Table

from crossxai.experiment.rankings import KINDS, Rankings
from crossxai.report import words

VERDICT = "than random"
BEATS = "beats random"
MOST = 6
"""Labels of one reason that are named."""


def summary(folder: Path, width: int) -> tuple[Table, list[str]]:
    """One line per model and explainer: means, the verdict of the first metric against random in words, seconds; then
    sentences: the reasons of those that have none, and the metrics that do not fit into `width` characters."""
    frame = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])  # a model may be called "nan"
    metrics = [column.removesuffix("_mean") for column in frame.columns if column.endswith("_mean")]
    first = next(iter(metrics), "")  # deletion, where there is one
    digits = {metric: _digits(frame[f"{metric}_mean"]) for metric in metrics}
    breadths = {metric: _breadth(metric, frame[f"{metric}_mean"], digits[metric]) for metric in metrics}
    room = width - _longest(frame["label"]) - len(VERDICT) - len("seconds") - 3
    taken = accumulate(breadth + 1 for breadth in breadths.values())
    shown = metrics[: max(1, sum(t <= room for t in taken))]  # one at least
    title = f"Means over samples, and {words.metric(first)} against random, Holm-corrected" if first else ""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=0, pad_edge=False)
    table.add_column("explainer", no_wrap=True)
    for metric in shown:
        table.add_column(words.metric(metric), justify="right", min_width=breadths[metric])
    table.add_column(VERDICT, no_wrap=True)
    table.add_column("seconds", justify="right")
    for model, rows in frame.groupby("model", sort=False):
        table.add_section()
        table.add_row(f"[bold]{model}[/]")
        for row in rows.to_dict("records"):
            means = [row[f"{metric}_mean"] for metric in shown]
            numbers = [_number(mean, digits[metric]) for mean, metric in zip(means, shown, strict=True)]
            verdict = row.get(f"{first}_versus_random_verdict") if row["status"] == "ok" else row["status"].capitalize()
            verdict = "no better" if verdict == "not told apart" else verdict
            seconds = "" if math.isnan(row["seconds"]) else f"{row['seconds']:.1f}"
            table.add_row(str(row["label"]), *numbers, verdict if isinstance(verdict, str) else "", seconds)
    rest = metrics[len(shown) :]
    more = [f"In the report, too: {words.listing([words.metric(m) for m in rest])}."] if rest else []
    return table, [*_reasons(frame), *more]


def _reasons(frame: pd.DataFrame) -> list[str]:
    """Why explainers have no scores, each reason once, shortened: the report has all of it."""
    missing = frame[frame["status"] != "ok"]
    sentences = []
    for (status, reason), rows in missing.groupby(["status", "reason"], sort=False):
        labels, models = (list(dict.fromkeys(rows[key])) for key in ("label", "model"))
        where = f" on {words.listing(models)}" if frame["model"].nunique() > 1 else ""
        sentences.append(
            f"{str(status).capitalize()}: {words.listing(labels, MOST)}{where}: {words.shortened(str(reason))}"
        )
    return sentences


def _breadth(metric: str, means: Iterable[float], digits: int) -> int:
    """Characters of a column: the longest word of its heading, or number."""
    return _longest([*words.metric(metric).split(), *(_number(mean, digits) for mean in means)])


def _number(mean: float, digits: int) -> str:
    return "" if math.isnan(mean) else f"{mean:.{digits}f}"


def _digits(means: Iterable[float]) -> int:
    """Decimals that tell means apart: three, or more where all are close together, six at most."""
    known = [mean for mean in means if math.isfinite(mean)]
    spread = max(known, default=0.0) - min(known, default=0.0)
    return min(6, max(3, 2 - math.floor(math.log10(spread)))) if spread > 1e-6 else 3


def _longest(labels: Iterable[object]) -> int:
    return max((len(str(x)) for x in labels), default=0)


def by_preset(rankings: Rankings, width: int) -> list[Table]:
    """Per model and kind of curve, each explainer's mean and rank by every preset, best mean rank first; several tables where the
    presets do not fit side by side."""
    tables: list[Table] = []
    for (model, kind), rows in rankings.means.groupby(["model", "kind"], sort=False):
        presets = list(dict.fromkeys(rows["preset"]))
        means, ranks = (rows.pivot(index="label", columns="preset", values=value) for value in ("mean", "rank"))
        cells = {
            name: {x: f"{means.loc[x, name]:.3f} ({ranks.loc[x, name]:g})" for x in ranks.index} for name in presets
        }
        order = ranks.mean(axis=1).sort_values(kind="stable").index
        groups = _side_by_side(cells, width - _longest(ranks.index) - len(BEATS) - 4)
        for i, group in enumerate(groups):
            title = f"{model}, {kind} ({KINDS[str(kind)]}): mean, and rank"
            title += f" ({i + 1} of {len(groups)})" if len(groups) > 1 else ""
            table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False)
            table.add_column("explainer", no_wrap=True)
            for name in group:
                table.add_column(
                    name.replace("_", " "), justify="right", min_width=_longest(list(cells[name].values()))
                )
            last = i == len(groups) - 1
            if last:
                table.add_column(BEATS, no_wrap=True)
            for label in order:
                verdicts = [_beats(rows[rows["label"] == label]["versus_random"].tolist())] if last else []
                table.add_row(str(label), *(cells[name][label] for name in group), *verdicts)
            tables.append(table)
    return tables


def _side_by_side(cells: dict[str, dict[str, str]], room: int) -> list[list[str]]:
    """Presets in their order, as many in a row as fit, one at least."""
    groups: list[list[str]] = []
    left = 0
    for name, column in cells.items():
        need = 2 + _longest([*column.values(), *name.split("_")])
        if not groups or need > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= need
    return groups


def _beats(verdicts: list[str]) -> str:
    """By how many conventions an explainer beats random, in words; "" for random itself, and without that control."""
    tested = [v for v in verdicts if v not in ("reference", "no test")]
    won = sum(v == "better" for v in tested)
    if not tested:
        return ""
    return "by all" if won == len(tested) else "by none" if not won else f"by {won} of {len(tested)}"
