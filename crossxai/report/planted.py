"""Whether explainers find the planted signal, where the data know it: the pointing game, in every modality that holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.analysis import Row, scored
from crossxai.report.regions import region
from crossxai.report.run import ORACLE, Run
from crossxai.report.wording import Finding, by_models, code, names, per_model, tally

FOUND = 0.8
"""The share of samples whose most relevant pixel is in the signal from which an explainer counts as finding it."""


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
        blind = {m: _blind(rows, m, metric) for m in counts}
        points += [
            f"As often{on}: {names(labels)}, which never {'looks' if len(labels) == 1 else 'look'} at the model. The signal "
            "is easy to point at, and pointing alone is no proof of having found it."
            for on, labels in by_models(blind, run.models)
        ]
        area = next((c.area for r in rows if (c := r.cells.get(metric)) and math.isfinite(c.area)), math.nan)
        text = (
            f"{words.capital(where)} ({words.percent(area, 1)} of the area): found by {per_model(counts, run.models)}, "
        )
        text += f"whose most relevant pixel is in it in at least {words.percent(FOUND)} of the samples."
        tone = "good" if any(finders.values()) else "warning"
        found.append(Finding("Planted signal", text, tuple(points), 92, tone))  # type: ignore[arg-type]
    return found


def _blind(rows: Sequence[Row], model: str, metric: str) -> list[str]:
    """The controls that reach the mark without looking at model or truth."""
    controls = [r for r in rows if r.model == model and r.control and r.label != ORACLE and metric in r.cells]
    return [r.label for r in controls if r.cells[metric].summary.mean >= FOUND]
