"""Whether maps stay under noise: who reaches the mark that the workshop set, per metric of a run."""

from __future__ import annotations

from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.analysis import Row, scored
from crossxai.report.run import Run
from crossxai.report.scorecard import STEADY
from crossxai.report.wording import Finding, Tone, by_models, names, per_model, tally


def steady(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """One finding per correlation under noise: explainers whose whole interval lies above the mark, and those below it."""
    found = []
    for metric in (m for m in run.metrics if run.kinds[m] == "noise_correlation"):
        reach: dict[str, list[str]] = {}
        miss: dict[str, list[str]] = {}
        counts = {}
        for model in run.models:
            means = {r.label: r.cells[metric].summary for r in scored(rows, model, metric)}
            reach[model] = [x for x, s in means.items() if s.low >= STEADY]
            miss[model] = [x for x, s in means.items() if s.high < STEADY]
            if means:
                counts[model] = tally(len(reach[model]), len(means))
        if not counts:
            continue
        text = f"{words.capital(words.metric(metric))}: {per_model(counts, run.models)} "
        text += f"{'reaches' if all(c.startswith(('the one', '1 ')) for c in counts.values()) else 'reach'} {STEADY:g}."
        points = [f"Above it{on}: {names(labels)}." for on, labels in by_models(reach, run.models)]
        points += [
            f"Below it, with the whole interval{on}: {names(labels)}." for on, labels in by_models(miss, run.models)
        ]
        tone: Tone = "warning" if any(miss.values()) else "plain"
        found.append(Finding("Stability", text, tuple(points), 52, tone))
    return found
