"""The verdict: what a run shows, as the facts of the one sentence that the page begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from crossxai.report import analysis, certainty
from crossxai.report.analysis import ALPHA, Row
from crossxai.report.run import CONTROLS, ORACLE, RANDOM, Run
from crossxai.report.wording import Fact, Tone


@dataclass(frozen=True)
class Verdict(Fact):
    """What a run shows. All labels are of explainers of libraries, compared with a random map by `metrics` on every model.

    n: samples. maps: of all explainers. failed: rows without a map or scores because something raised; lost: models that failed
    as a whole. beat: explainers that are better than random in every comparison, `partly` in some, `by_metric` on every model by
    that metric; compared: all that were. best: the best of `beat` by its mean rank over metrics and models, and level: those that
    no comparison tells apart from it.
    needed: the samples from which on a comparison can be significant at all, 0 if there are enough. control: one that never looks
    at the model and is better than most explainers by every metric on every model.
    """

    key: ClassVar[str] = "verdict"
    rank: ClassVar[float] = 1000
    n: int
    maps: int
    stopped: bool
    failed: int
    lost: tuple[str, ...]
    metrics: tuple[str, ...]
    compared: tuple[str, ...]
    by_metric: Mapping[str, tuple[str, ...]]
    beat: tuple[str, ...]
    partly: tuple[str, ...]
    best: str
    level: tuple[str, ...]
    needed: int
    control: str

    @property
    def tone(self) -> Tone:
        """A run that shows what its user wanted is good news only if nothing failed."""
        return "good" if self.beat and not (self.failed or self.stopped or self.control) else "warning"


def verdict(run: Run, rows: Sequence[Row]) -> Verdict:
    """What a run shows, from its table of scores."""
    metrics = certainty.metrics(run)
    won: dict[str, dict[str, list[bool]]] = {metric: {} for metric in metrics}
    for row in (r for r in rows if not r.control):
        for metric, better in won.items():
            cell = row.cells.get(metric)
            if cell and cell.versus and cell.versus.verdict != "no test":
                better.setdefault(row.label, []).append(cell.versus.verdict == "better")
    compared = list(dict.fromkeys(label for better in won.values() for label in better))
    every = {x: [b for better in won.values() for b in better.get(x, [])] for x in compared}
    beat = tuple(x for x in compared if all(every[x]))
    best, level = _best(run, rows, metrics, beat)
    return Verdict(
        models=run.models,
        n=run.n,
        maps=sum(r.maps for r in rows),
        stopped=bool(run.stopped),
        failed=len(run.manifest.get("failures", [])),
        lost=tuple(str(m["name"]) for m in run.manifest.get("models", []) if m.get("failed")),
        metrics=metrics,
        compared=tuple(compared),
        by_metric={metric: tuple(x for x in better if all(better[x])) for metric, better in won.items()},
        beat=beat,
        partly=tuple(x for x in compared if any(every[x]) and not all(every[x])),
        best=best,
        level=level,
        needed=_needed(run, metrics),
        control=_control(run, metrics),
    )


def _best(run: Run, rows: Sequence[Row], metrics: Sequence[str], beat: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The best of these by mean rank over metrics and models, and those of them that no comparison tells apart from it."""
    if not beat:
        return "", ()
    ranks: dict[str, list[float]] = {label: [] for label in beat}
    for metric in metrics:
        for model in run.models:
            chosen = [r for r in analysis.scored(rows, model, metric) if r.label in ranks]
            sign = -1 if chosen and chosen[0].cells[metric].higher_is_better else 1
            places = rankdata([sign * r.cells[metric].summary.mean for r in chosen])
            for row, place in zip(chosen, places, strict=True):
                ranks[row.label].append(float(place))
    best = min(beat, key=lambda label: float(np.mean(ranks[label])))
    different = {
        label
        for metric in metrics
        for model in run.models
        for label, test in analysis.against(run, model, metric, best, libraries_only=True).items()
        if test.verdict in ("better", "worse")
    }
    return best, tuple(x for x in beat if x != best and x not in different)


def _needed(run: Run, metrics: Sequence[str]) -> int:
    """How many samples the comparisons with random need before any of them can be significant; 0 if there are enough."""
    least = 0
    for metric in metrics:
        for model in run.models:
            tests = analysis.against(run, model, metric, RANDOM)
            n = max((t.n for t in tests.values()), default=0)
            if tests and analysis.smallest_p(n, len(tests)) >= ALPHA:
                needed = next((k for k in range(2, 40) if analysis.smallest_p(k, len(tests)) < ALPHA), 0)
                least = max(least, needed)
            elif tests:
                return 0
    return least


def _control(run: Run, metrics: Sequence[str]) -> str:
    """A control that is better than more than half of the explainers in every comparison; "" if there is none."""
    oracles = {e.label for e in run.explanations if e.explainer == ORACLE}
    strongest, share = "", 0.5
    for control in (x for x in run.labels if x.startswith(f"{CONTROLS}.") and x not in (RANDOM, *oracles)):
        shares = [
            sum(t.verdict == "worse" for t in tests.values()) / len(tests)
            for metric in metrics
            for model in run.models
            if (tests := analysis.against(run, model, metric, control, libraries_only=True))
        ]
        if min(shares, default=0.0) > share:
            strongest, share = control, min(shares)
    return strongest
