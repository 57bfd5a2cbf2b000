"""Findings in plain words, every one computed from the numbers; names of explainers stand between backticks.

Order is by weight: what beats random, what beats simpler controls, agreement, and then what is broken or missing; a
finding that many maps are unusable moves up with their share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.stats import spearmanr

from crossxai.report import analysis, missing, modality_findings, planted, remarks, room, shortcuts, steady, words
from crossxai.report.agreeing import frameworks, libraries
from crossxai.report.analysis import Row, Test, Verdict, scored
from crossxai.report.comparison import Maps
from crossxai.report.oracle import oracle
from crossxai.report.phrases import Finding, Tone, by_models, code, names, per_model, tally, together
from crossxai.report.places import Places
from crossxai.report.regions import where_it_goes
from crossxai.report.run import CONTROLS, CURVES, ORACLE, RANDOM, Run

MANY_TIES = 0.5


def find(run: Run, rows: Sequence[Row], maps: Maps, where: Sequence[Places] = ()) -> tuple[Finding, ...]:
    """Everything worth saying, most important first."""
    found: list[Finding] = []
    if not any(r.status == "ok" for r in rows):
        found.append(Finding("Nothing to judge", "No explainer gave a map in this run.", (), 100, "warning"))
    for place, metric in enumerate(run.curves or CURVES):
        found += _versus_random(run, rows, metric, 90 - place / 2)
    found += _simple_controls(run, rows)
    found += [*planted.planted(run, rows), *oracle(run, rows), *_leaders(run, rows)]
    found += shortcuts.shortcuts(run, where)
    found += libraries(run, maps)
    found += frameworks(run, maps)
    for metric in run.metrics:
        found += where_it_goes(run, rows, metric)
    found += [*_degenerate(run, rows), *_ties(run, rows), *missing.unsupported(run, rows), *remarks.remarks(run)]
    found += [
        *_completeness(run),
        *missing.valueless(run, rows),
        *modality_findings.findings(run, rows),
        *steady.steady(run, rows),
    ]
    return tuple(sorted(found, key=lambda f: -f.weight))


def _with(tests: dict[str, Test], verdict: Verdict) -> list[str]:
    """Labels with a verdict, the largest difference first."""
    chosen = [label for label, test in tests.items() if test.verdict == verdict]
    return sorted(chosen, key=lambda label: -abs(tests[label].difference))


def _versus_random(run: Run, rows: Sequence[Row], metric: str, weight: float) -> list[Finding]:
    tests: dict[str, dict[str, Test]] = {}
    for model in run.models:
        versus = {r.label: r.cells[metric].versus for r in scored(rows, model, metric)}
        tests[model] = {label: test for label, test in versus.items() if test is not None}
    tests = {model: found for model, found in tests.items() if found}
    topic = metric.capitalize()
    if not tests:
        if metric in run.metrics:
            text = f"{topic} is not compared with random: this run has no scored random control."
            return [Finding(topic, text, (), weight, "warning")]
        return []
    counts = {m: tally(len(_with(t, "better")), len(t)) for m, t in tests.items()}
    headline = f"{topic}: {per_model(counts, run.models, ' beat random')}."
    if not any(_with(t, "better") for t in tests.values()):
        headline = f"{topic}: no explainer is shown to be better than random."
    points = together({m: _strongest(rows, m, metric, found) for m, found in tests.items()}, run.models)
    sayings: tuple[tuple[Verdict, str], ...] = (
        ("better", "Better than random"),
        ("not told apart", "Not told apart from random"),
        ("worse", "Worse than random"),
    )
    for verdict, saying in sayings:
        for where, labels in by_models({m: _with(t, verdict) for m, t in tests.items()}, run.models):
            points.append(f"{saying}{where}: {_differences(labels, verdict, tests)}.")
    points += [*room.little(run, metric), *room.off_scale(run, metric), *_too_few(run, metric, tests)]
    tone: Tone = "good" if any(_with(t, "better") for t in tests.values()) else "warning"
    return [Finding(topic, headline, tuple(p for p in points if p), weight, tone)]


def _differences(labels: Sequence[str], verdict: Verdict, tests: dict[str, dict[str, Test]]) -> str:
    """Names with their differences to random, one number per model where they differ in the third decimal."""
    listed = []
    for label in labels:
        found = [t[label] for t in tests.values() if label in t and t[label].verdict == verdict]
        numbers = dict.fromkeys(words.signed(t.difference) for t in found)
        listed.append(f"{code(label)} {' and '.join(numbers)}")
    shown = [t[x].p_holm for t in tests.values() for x in labels if x in t and t[x].verdict == verdict]
    tail = "" if verdict == "not told apart" else f" ({words.p_value(max(shown)).replace('=', '≤')})"
    return words.listing(listed) + tail


def _strongest(rows: Sequence[Row], model: str, metric: str, tests: dict[str, Test]) -> str:
    winners = _with(tests, "better")
    if not winners:
        return ""
    row = {r.label: r for r in scored(rows, model, metric)}
    control = next(r for r in rows if r.model == model and r.label == RANDOM)
    label, test = winners[0], tests[winners[0]]
    return (
        f"Largest difference{{where}}: {code(label)}, area {words.number(row[label].cells[metric].summary.mean)} against "
        f"{words.number(control.cells[metric].summary.mean)} for random: {_difference(test)}."
    )


def _difference(test: Test) -> str:
    between = words.interval(test.low, test.high)
    inside = f"95% interval {between}, {words.p_value(test.p_holm)}" if between else words.p_value(test.p_holm)
    return f"{words.signed(test.difference)} ({inside}, {words.count(test.n, 'sample')})"


def _too_few(run: Run, metric: str, tests: dict[str, dict[str, Test]]) -> list[str]:
    """A warning where no result could have been significant: too few samples for so many comparisons."""
    for model in tests:
        family = analysis.against(run, model, metric, RANDOM)
        n = max((t.n for t in family.values()), default=0)
        smallest = analysis.smallest_p(n, len(family))
        if smallest >= analysis.ALPHA:
            return [
                f"With {words.count(n, 'sample')} and {words.count(len(family), 'comparison')}, the smallest p that any "
                f"one of them can reach after correction is {smallest:.2g}, and {analysis.ALPHA:g} is asked for: “not told "
                "apart” may only mean too few samples."
            ]
    return []


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
