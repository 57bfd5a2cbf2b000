"""Findings about scores: who beats a random map and simpler controls, and which explainer is best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from scipy.stats import spearmanr

from crossxai.report import analysis, planted, steady, words
from crossxai.report.agreeing import frameworks, libraries
from crossxai.report.analysis import Row, Test, Verdict, scored
from crossxai.report.comparison import Maps
from crossxai.report.oracle import oracle
from crossxai.report.regions import where_it_goes
from crossxai.report.room import Ends, Scale, alike_ends, changed, off_scale, units
from crossxai.report.run import CONTROLS, CURVES, ORACLE, RANDOM, Run
from crossxai.report.wording import Fact, Finding, Tone, by_models, code, names, per_model, tally, together

MANY_TIES = 0.5


@dataclass(frozen=True)
class Versus:
    """One explainer's mean of a metric against a random map's: the paired difference, its interval and its corrected p."""

    label: str
    mean: float
    control_mean: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    verdict: Verdict


@dataclass(frozen=True)
class BeatsRandom(Fact):
    """Whether explainers beat a random map by a curve. comparisons: by model, the largest difference first.

    family, n, smallest_p: the comparisons that are corrected together, their samples, and the smallest p that one of them can
    have; NaN if it can be significant. alike_ends, off_scale: models whose curves say little, see `room`. units, changed: what is
    ranked, and what happens to it.
    """

    key: ClassVar[str] = "beats_random"
    alpha: ClassVar[float] = analysis.ALPHA
    metric: str
    place: int
    comparisons: Mapping[str, tuple[Versus, ...]]
    family: int
    n: int
    smallest_p: float
    units: str
    changed: str
    alike_ends: Mapping[str, Ends]
    off_scale: Mapping[str, Scale]

    @property
    def weight(self) -> float:
        """Deletion first, then insertion."""
        return 90 - self.place / 2

    @property
    def tone(self) -> Tone:
        """A warning where no explainer is better."""
        return "good" if self.any_better else "warning"

    @property
    def any_better(self) -> bool:
        """Whether any explainer is better than random on any model."""
        return any(self.labels("better").values())

    @property
    def one_better(self) -> bool:
        """Whether it is one explainer on every model."""
        return all(len(labels) == 1 for labels in self.labels("better").values())

    @property
    def too_few(self) -> bool:
        """Whether no comparison can be significant, for want of samples."""
        return math.isfinite(self.smallest_p)

    @property
    def strongest(self) -> dict[str, Versus]:
        """Model → the explainer that is better than random by most."""
        return {m: found[0] for m, x in self.comparisons.items() if (found := [v for v in x if v.verdict == "better"])}

    def labels(self, verdict: Verdict) -> dict[str, list[str]]:
        """Model → the explainers with this verdict."""
        return {m: [v.label for v in found if v.verdict == verdict] for m, found in self.comparisons.items()}

    def differences(self, label: str, verdict: Verdict) -> list[float]:
        """An explainer's differences on the models where it has this verdict."""
        return [v.difference for v in self._of([label], verdict)]

    def largest_p(self, labels: Sequence[str], verdict: Verdict) -> float:
        """The largest corrected p of these explainers where they have this verdict."""
        return max(v.p for v in self._of(labels, verdict))

    def _of(self, labels: Sequence[str], verdict: Verdict) -> list[Versus]:
        every = [v for found in self.comparisons.values() for v in found]
        return [v for v in every if v.label in labels and v.verdict == verdict]


def facts(run: Run, rows: Sequence[Row]) -> list[Fact]:
    """What scores say of explainers."""
    return [
        BeatsRandom(
            models=run.models,
            metric=metric,
            place=place,
            comparisons=_comparisons(run, rows, metric),
            **_family(run, metric),
            units=units(run, metric),
            changed=changed(run, metric),
            alike_ends=alike_ends(run, metric),
            off_scale=off_scale(run, metric),
        )
        for place, metric in enumerate(run.curves)
    ]


def _comparisons(run: Run, rows: Sequence[Row], metric: str) -> dict[str, tuple[Versus, ...]]:
    found = {}
    for model in run.models:
        control = next((r for r in rows if (r.model, r.label) == (model, RANDOM) and metric in r.cells), None)
        versus = [
            Versus(
                row.label,
                cell.summary.mean,
                control.cells[metric].summary.mean,
                test.difference,
                test.low,
                test.high,
                test.p_holm,
                test.n,
                test.verdict,
            )
            for row in scored(rows, model, metric)
            if control and (test := (cell := row.cells[metric]).versus) is not None
        ]
        if versus:
            found[model] = tuple(sorted(versus, key=lambda v: -abs(v.difference)))
    return found


def _family(run: Run, metric: str) -> dict[str, Any]:
    """The comparisons of the first model on which no result could be significant: too few samples for so many comparisons."""
    for model in run.models:
        tests = analysis.against(run, model, metric, RANDOM)
        n = max((t.n for t in tests.values()), default=0)
        smallest = analysis.smallest_p(n, len(tests))
        if tests and smallest >= analysis.ALPHA:
            return {"family": len(tests), "n": n, "smallest_p": smallest}
    return {"family": 0, "n": 0, "smallest_p": math.nan}


def findings(run: Run, rows: Sequence[Row], maps: Maps) -> list[Finding]:
    """Everything else that scores and maps say."""
    found: list[Finding] = []
    if not any(r.status == "ok" for r in rows):
        found.append(Finding("Nothing to judge", "No explainer gave a map in this run.", (), 100, "warning"))
    found += _simple_controls(run, rows)
    found += [*planted.planted(run, rows), *oracle(run, rows), *_leaders(run, rows)]
    found += [*libraries(run, maps), *frameworks(run, maps)]
    for metric in run.metrics:
        found += where_it_goes(run, rows, metric)
    return [*found, *_degenerate(run, rows), *_ties(run, rows), *_completeness(run), *steady.steady(run, rows)]


def _with(tests: dict[str, Test], verdict: Verdict) -> list[str]:
    """Labels with a verdict, the largest difference first."""
    chosen = [label for label, test in tests.items() if test.verdict == verdict]
    return sorted(chosen, key=lambda label: -abs(tests[label].difference))


def _simple_controls(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """Against every control but random and oracles: a map that ignores the model and is no noise either."""
    points, few, able, strong = [], False, False, list[tuple[float, str]]()
    oracles = {e.label for e in run.explanations if e.explainer == ORACLE}
    controls = [x for x in run.labels if x.startswith(f"{CONTROLS}.") and x not in (RANDOM, *oracles)]
    for metric in run.curves:
        for control in controls:
            counts, winners, losers, share = {}, {}, {}, 0.0
            for model in run.models:
                tests = analysis.against(run, model, metric, control, libraries_only=True)
                tests = {x: t for x, t in tests.items() if t.verdict != "no test"}
                if tests:
                    able = able or analysis.smallest_p(max(t.n for t in tests.values()), len(tests)) < analysis.ALPHA
                    winners[model] = _with(tests, "better")
                    worse = len(_with(tests, "worse"))
                    counts[model] = f"{tally(len(winners[model]), len(tests))} beat {code(control)}"
                    counts[model] += f" and {worse} {'does' if worse == 1 else 'do'} worse" if worse else ""
                    if 2 * worse > len(tests):
                        losers[model], share = tally(worse, len(tests)), max(share, worse / len(tests))
                    few = few or 2 * len(winners[model]) < len(tests)
            if counts:
                groups = by_models(winners, run.models)
                listed = [names(x) + (where if len(groups) > 1 else "") for where, x in groups]
                tail = f": {'; '.join(listed)}" if listed else ""
                points.append(f"{metric.capitalize()}: {per_model(counts, run.models)}{tail}.")
            if losers:
                where = per_model(losers, run.models, f" in {metric}")
                strong.append((share, f"{code(control)}, a map that ignores the model, scores better than {where}."))
    if not points:
        return []
    if strong:
        text = max(strong, key=lambda s: s[0])[1]
        return [Finding("Simple controls", text, tuple(points), 88.5, "warning")]
    if not able:
        text = f"{words.count(run.n, 'sample')} cannot show whether any explainer beats a map that ignores the model: "
        return [Finding("Simple controls", f"{text}{names(controls)}.", tuple(points), 80, "warning")]
    text = f"Maps that ignore the model but are not noise ({names(controls)}) are "
    text += (
        "hard to beat: in at least one comparison fewer than half of the explainers do."
        if few
        else ("beaten by at least half of the explainers.")
    )
    return [Finding("Simple controls", text, tuple(points), 80, "warning" if few else "plain")]


def _leaders(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """The best explainer by each curve, those that cannot be told apart from it, and whether the curves agree."""
    points, tied = [], False
    for metric in run.curves:
        texts: dict[str, str] = {}
        for model in run.models:
            leader = analysis.best([r for r in rows if r.model == model], metric)
            if leader is None:
                continue
            tests = analysis.against(run, model, metric, leader.label, libraries_only=True)
            same = [label for label in tests if tests[label].verdict == "not told apart"]
            if not tests:
                continue
            cell = leader.cells[metric].summary
            between = words.interval(cell.low, cell.high)
            text = f"{metric.capitalize()}{{where}}: best mean {code(leader.label)}, {words.number(cell.mean)}"
            text += f" ({between}); " if between else "; "
            tied = tied or bool(same)
            text += f"not told apart from it: {names(same)}." if same else "all others are told apart from it."
            texts[model] = text
        points += together(texts, run.models)
    if not points:
        return []
    kinds = {kind: [m for m in run.curves if run.kinds[m] == kind] for kind in CURVES}
    for deletion, insertion in product(*kinds.values()):
        if run.modality(deletion) == run.modality(insertion):
            points += together(_orders(run, rows, deletion, insertion), run.models)
    headline = "On each score, one explainer is told apart from all others."
    if tied:
        headline = "On at least one score, the best explainer is not told apart from others."
    return [Finding("Best explainers", headline, tuple(points), 75)]


def _orders(run: Run, rows: Sequence[Row], deletion: str, insertion: str) -> dict[str, str]:
    """Per model, how far the two kinds of curves of one modality order explainers alike."""
    orders = {}
    for model in run.models:
        both = [r for r in scored(rows, model, deletion) if r in scored(rows, model, insertion)]
        if len(both) > 3:
            means = [[sign * r.cells[m].summary.mean for r in both] for m, sign in ((deletion, -1), (insertion, 1))]
            constant = any(np.ptp(x) == 0 for x in means)  # of which there is no rank correlation
            rank = math.nan if constant else float(spearmanr(*means).statistic)
            if math.isfinite(rank):
                orders[model] = (
                    f"{words.capital(words.metric(deletion))} and {words.metric(insertion)} order the {len(both)} explainers"
                    f"{{where}} with a rank correlation of {words.number(rank, 2)} (1: same order, 0: unrelated, "
                    f"{words.MINUS}1: reversed)."
                )
    return orders


def _degenerate(run: Run, rows: Sequence[Row]) -> list[Finding]:
    maps = sum(r.maps for r in rows)
    bad = sum(sum(r.degenerate.values()) for r in rows)
    if not maps:
        return []
    if not bad:
        text = f"No degenerate map among {maps}: none is constant, zero or not finite."
        return [Finding("Degenerate maps", text, (), 20, "good")]
    points = []
    for row in sorted(rows, key=lambda r: -sum(r.degenerate.values())):
        if row.degenerate:
            listed = [f"{n} {words.kind(kind)}" for kind, n in row.degenerate.items()]
            whose = _classes(run, row)
            points.append(
                f"{code(row.label)} on {row.model}: {words.listing(listed)} of {words.count(row.maps, 'map')}{whose}."
            )
    share = bad / maps
    verb = "is" if bad == 1 else "are"
    text = f"{bad} of {maps} maps {verb} degenerate ({words.percent(share, 1)}): constant, zero or not finite."
    return [Finding("Degenerate maps", text, tuple(points), 50 + 60 * share, "warning")]


def _classes(run: Run, row: Row) -> str:
    """Of which classes the degenerate maps are: an explainer that fails on one class alone says so."""
    classes = run.samples.classes
    if getattr(run.samples, "task", "classification") != "classification" or len(classes) < 2:
        return ""
    bad = np.array([bool(kind) for kind in run.of(row.model)[row.label].degenerate])
    labels = np.asarray(run.samples.labels)
    if bad.shape != labels.shape:
        return ""  # an explainer of several modalities counts each map
    counts = [(name, int((bad & (labels == k)).sum()), int((labels == k).sum())) for k, name in enumerate(classes)]
    return f" ({words.listing([f'{n} of {all_of} {name}' for name, n, all_of in counts if all_of])})"


def _ties(run: Run, rows: Sequence[Row]) -> list[Finding]:
    high = {m: [r.label for r in rows if r.model == m and not r.control and r.tie_rate > MANY_TIES] for m in run.models}
    groups = by_models(high, run.models)
    if not groups:
        return []
    points = []
    for where, labels in groups:
        rates = {r.label: words.percent(r.tie_rate) for r in rows if r.label in labels}
        points.append(f"{words.listing([f'{code(x)} {rates[x]}' for x in labels])}{where}.")
    many = {x for _, group in groups for x in group}
    text = f"{words.count(len(many), 'explainer')} {'gives' if len(many) == 1 else 'give'} most units of a map a value "
    text += "that another unit has too; a seeded draw, the same for all explainers, puts those in order."
    return [Finding("Ties", text, tuple(points), 30)]


def _completeness(run: Run) -> list[Finding]:
    """How far the maps that promise it are from adding up to the change of the score."""
    gaps: dict[str, dict[str, str]] = {}
    for explanation in run.explanations:
        if "completeness_gap" in explanation.extras:
            gap = float(np.abs(explanation.extras["completeness_gap"]).mean())
            gaps.setdefault(explanation.label, {})[explanation.model] = words.number(gap)
    if not gaps:
        return []
    largest = words.number(max(float(gap) for found in gaps.values() for gap in found.values()))
    points = [f"{code(label)}: {per_model(found, run.models)}." for label, found in gaps.items()]
    text = (
        f"Maps that are meant to add up to the change of the explained score miss it by at most {largest} on average."
    )
    return [Finding("Completeness", text, tuple(points), 20)]
