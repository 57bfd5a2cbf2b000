"""Whether explainers find the planted signal, where the data know it: the pointing game, in every modality that holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.analysis import Row, scored
from crossxai.report.phrases import Finding, by_models, code, names, per_model, tally
from crossxai.report.regions import region
from crossxai.report.run import ORACLE, Run

FOUND = 0.8
"""The share of samples whose most relevant unit is in the signal from which an explainer counts as finding it."""


def planted(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """One finding per pointing game at a known truth; nothing for runs without one."""
    found = []
    for metric in (m for m in run.metrics if run.kinds[m] == "pointing" and run.samples.truth):
        where = region(run, metric)
        if not where.startswith("the planted"):
            continue
        counts, best, finders = {}, {}, {}
        for model in run.models:
            means = {r.label: r.cells[metric].summary for r in scored(rows, model, metric)}
            if not means:
                continue
            finders[model] = [x for x, s in means.items() if s.mean >= FOUND]
            counts[model] = tally(len(finders[model]), len(means))
            top = max(means, key=lambda x: means[x].mean)
            between = words.interval(means[top].low * 100, means[top].high * 100, 0)
            best[model] = f"{code(top)}, {words.percent(means[top].mean)}{f' ({between})' if between else ''}"
        if not counts:
            continue
        points = [f"Most often in it: {per_model(best, run.models)}."]
        points += [
            f"At least {words.percent(FOUND)}{on}: {names(labels)}." for on, labels in by_models(finders, run.models)
        ]
        blind = {m: [r.label for r in rows if r.model == m and _points(r, metric)] for m in counts}
        for on, labels in by_models(blind, run.models):
            points.append(
                f"So {'do' if len(labels) > 1 else 'does'} {names(labels)}{on}, which never asked the model: to be there is easy."
            )
        area = next((c.area for r in rows if (c := r.cells.get(metric)) and math.isfinite(c.area)), math.nan)
        text = (
            f"{words.capital(where)} ({words.percent(area, 1)} of the area): found by {per_model(counts, run.models)}, "
        )
        text += f"whose most relevant unit is in it in at least {words.percent(FOUND)} of the samples."
        tone = "good" if any(finders.values()) else "warning"
        found.append(Finding("Planted signal", text, tuple(points), 92, tone))  # type: ignore[arg-type]
    return found


def _points(row: Row, metric: str) -> bool:
    """Whether a control that does not know the truth is in the signal as often as an explainer that finds it."""
    cell = row.cells.get(metric)
    return row.control and row.label != ORACLE and cell is not None and cell.summary.mean >= FOUND
