"""Findings about agreement: one method in two libraries, one explainer in two frameworks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossxai.evaluation.statistics import Summary
from crossxai.report import words
from crossxai.report.comparison import LibraryPair, Maps, ModelPair
from crossxai.report.run import Run
from crossxai.report.wording import Finding, Tone, code, names, per_model, together

SAME_RANKS = 0.9995  # rounds to 1.000
SMALL_ERROR = 5e-4  # rounds to 0.000
TWINS = "; their weights have the same hash"


def libraries(run: Run, maps: Maps) -> list[Finding]:
    """Where libraries disagree about a method of the same name on the same model."""
    pairs = [p for p in maps.libraries if math.isfinite(p.spearman.mean)]
    if not pairs:
        return []
    groups: dict[tuple[str, str], list[LibraryPair]] = {}
    for pair in sorted(pairs, key=lambda p: p.spearman.mean):
        groups.setdefault((pair.first, pair.second), []).append(pair)
    points = [_library_point(group, run) for group in groups.values()]
    points += _profiles(pairs, run)
    lowest, highest = pairs_range(pairs)
    if lowest.spearman.mean >= SAME_RANKS:
        text = f"Libraries agree on every method they share: Spearman 1.000 in {words.count(len(groups), 'pair')}."
        return [Finding("Libraries", text, tuple(points), 70, "good")]
    text = (
        f"The same method in two libraries: Spearman {words.number(lowest.spearman.mean)} "
        f"({code(lowest.first)} and {code(lowest.second)})"
    )
    # One pair of libraries on two models is one number, unless the models set them apart.
    if len(groups) > 1 or words.number(highest.spearman.mean) != words.number(lowest.spearman.mean):
        text = (
            text.replace("Spearman", "Spearman from", 1)
            + f" to {words.number(highest.spearman.mean)} ({code(highest.first)} and {code(highest.second)})"
        )
    return [Finding("Libraries", f"{text}.", tuple(points), 70, "warning" if lowest.spearman.mean < 0.9 else "plain")]


def pairs_range(pairs: Sequence[LibraryPair]) -> tuple[LibraryPair, LibraryPair]:
    """The pairs with the lowest and the highest agreement."""
    return min(pairs, key=lambda p: p.spearman.mean), max(pairs, key=lambda p: p.spearman.mean)


def _library_point(group: Sequence[LibraryPair], run: Run) -> str:
    pair = group[0]
    numbers = per_model({m: _mean(p.spearman) for m in run.models for p in group if p.model == m}, run.models)
    text = f"{code(pair.first)} and {code(pair.second)} ({pair.profile}): Spearman {numbers}."
    if pair.spearman.mean < SAME_RANKS:
        notes = "; ".join(pair.notes)
        text += f" What differs: {notes}." if notes else " No parameter differs: the libraries’ own computations do."
    if pair.stochastic and pair.spearman.mean < SAME_RANKS:
        text += " At least one of them draws random numbers, so part of the difference may be chance."
    return text


def _profiles(pairs: Sequence[LibraryPair], run: Run) -> list[str]:
    """What the canonical profile does to the agreement of the same two libraries."""
    native = {(p.model, p.method, *_libraries(p)): p for p in pairs if p.profile == "native"}
    texts: dict[tuple[str, ...], dict[str, str]] = {}
    for pair in pairs:
        before = native.get((pair.model, pair.method, *_libraries(pair)))
        if pair.profile == "canonical" and before is not None:
            texts.setdefault((pair.method, *_libraries(pair)), {})[pair.model] = (
                f"{code(pair.method)}{{where}}, {words.listing([words.library(x) for x in _libraries(pair)])}: Spearman "
                f"{words.number(before.spearman.mean)} with the libraries' defaults, "
                f"{words.number(pair.spearman.mean)} with the canonical profile."
            )
    return [text for group in texts.values() for text in together(group, run.models)]


def _libraries(pair: LibraryPair) -> tuple[str, str]:
    return pair.first.split(".")[0], pair.second.split(".")[0]


def _mean(summary: Summary) -> str:
    between = words.interval(summary.low, summary.high)
    same = between == f"{words.number(summary.mean)} to {words.number(summary.mean)}"
    return f"{words.number(summary.mean)} ({between})" if between and not same else words.number(summary.mean)


def frameworks(run: Run, maps: Maps) -> list[Finding]:
    """Where two models disagree about the same explainer; one finding per pair of models.

    Where a run has one network in two frameworks, pairs of other weights are left out: their maps ought to differ.
    """
    found = []
    couples = list(dict.fromkeys((p.first, p.second) for p in maps.models))
    twins = [pair for pair in couples if _weights(run, *pair) == TWINS]
    for first, second in twins or couples:
        pairs = [p for p in maps.models if (p.first, p.second) == (first, second) and not p.control]
        pairs = [p for p in pairs if math.isfinite(p.spearman.mean)]
        if pairs:
            found.append(_models(run, first, second, pairs))
    return found


def _models(run: Run, first: str, second: str, pairs: Sequence[ModelPair]) -> Finding:
    fixed = [p for p in pairs if not p.stochastic]
    drawn = [p for p in pairs if p.stochastic]
    same = [p for p in fixed if p.spearman_min >= SAME_RANKS]
    other = sorted((p for p in fixed if p not in same), key=lambda p: p.spearman.mean)
    between = f"{first} and {second}"
    headline = f"Between {between}, {len(same)} of {words.count(len(fixed), 'deterministic explainer')} "
    headline += "with usable maps rank the pixels alike to 3 decimals (Spearman 1.000 on every sample)."
    if not fixed:
        headline = f"Between {between}, only explainers that draw random numbers can be compared."
    points = []
    if same:
        worst = max(same, key=lambda p: p.error_max)
        exact = [p for p in same if p.error_max < SMALL_ERROR]
        text = f"Alike: {names([p.label for p in same])}. Largest relative difference of values: "
        points.append(
            f"{text}{words.brief(worst.error_max)} ({code(worst.label)}); {len(exact)} below {SMALL_ERROR:g}."
        )
    points += [f"Differs: {_pair(p)}." for p in other]
    close = [p for p in drawn if p.spearman_min >= SAME_RANKS]
    if close:
        points.append(f"Random draws, yet alike to 3 decimals: {names([p.label for p in close])}.")
    for p in sorted((p for p in drawn if p not in close), key=lambda p: p.spearman.mean):
        points.append(f"{_pair(p)}: it draws random numbers, so some of this is chance.")
    points += _scores(run, first, second)
    tone: Tone = "good" if fixed and not other else "plain"
    if other and other[0].spearman.mean < 0.9:
        tone = "warning"
    return Finding("Frameworks", headline, tuple(points), 65, tone)


def _pair(pair: ModelPair) -> str:
    return (
        f"{code(pair.label)}, Spearman {_mean(pair.spearman)}, lowest {words.number(pair.spearman_min)}, "
        f"relative difference {words.brief(pair.error.mean)}"
    )


def _scores(run: Run, first: str, second: str) -> list[str]:
    if first not in run.predictions or second not in run.predictions:
        return []
    gap = float(np.abs(run.predictions[first].score - run.predictions[second].score).max())
    if not math.isfinite(gap):
        return []
    same = "are equal" if gap == 0 else f"differ by at most {words.brief(gap)}"
    return [f"The explained scores of the two models {same}{_weights(run, first, second)}."]


def _weights(run: Run, first: str, second: str) -> str:
    """Whether the two models are the same model at all."""
    hashes = {m.get("name"): m.get("weights_sha256") for m in run.manifest.get("models", [])}
    one, two = hashes.get(first), hashes.get(second)
    if not one or not two:
        return ""
    return TWINS if one == two else "; their weight files have different hashes"
