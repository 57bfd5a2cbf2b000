"""Findings about the run itself: its verdict, what stopped, failed or was refused, what has no value, what explainers note."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import rankdata

from crossxai.files import Result
from crossxai.report import analysis, certainty
from crossxai.report.analysis import ALPHA, Row
from crossxai.report.run import CONTROLS, RANDOM, RunRecord, is_control, ok
from crossxai.report.words import Fact

UNREACHED = "unreached."
"""Extras of this name and a modality: of which samples the score does not depend on it, as measured."""
ZERO = "zero_gradient"


@dataclass(frozen=True)
class Stopped(Fact):
    """A run that was stopped before its end: how far it came, and by model what it lacks."""

    done: str
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class NoMaps(Fact):
    """A run without any map."""


@dataclass(frozen=True)
class Unchecked(Fact):
    """A run whose models were not checked, as its experiment asked."""


@dataclass(frozen=True)
class SomeMaps(Fact):
    """A run whose maps were not all kept as they were made, or not all read. how: as the experiment says; kept: of so many
    samples; drawn: whether those were drawn now, of more that have maps."""

    how: str
    kept: int
    samples: int
    drawn: bool = False


@dataclass(frozen=True)
class Reason:
    """Why explainers, or a metric of explainers, have nothing on some models. labels: none means all; metric: "" for maps."""

    reason: str
    labels: tuple[str, ...]
    models: tuple[str, ...]
    metric: str = ""


@dataclass(frozen=True)
class Failed(Fact):
    """What raised, or a model that breaks an assumption: a mistake somewhere, not a property of a method. lost: models that
    failed as a whole, and why; count: explanations and scores that failed."""

    lost: Mapping[str, str]
    count: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Unsupported(Fact):
    """Explainers that do not support a model, and metrics that do not support a map. count: explainers; metrics: metrics."""

    explainers: int
    metrics: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class NoValue(Fact):
    """Metrics without a value of any sample, such as one over masks of a class that the data lack."""

    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """What explainers say of their maps on some models. text: their own words; else the kind "unreached" or "zero_gradient" of
    `samples` of `n` samples, and the modality."""

    labels: tuple[str, ...]
    models: tuple[str, ...]
    text: str = ""
    kind: str = ""
    modality: str = ""
    samples: int = 0
    n: int = 0


@dataclass(frozen=True)
class Notes(Fact):
    """What explainers say of their own maps."""

    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Verdict(Fact):
    """What a run shows. All labels are of explainers of libraries, compared with a random map by `metrics` on every model.

    n: samples, or groups (`counts`). maps: of all explainers. failed: rows without a map or scores because something
    raised; lost: models that failed as a whole. beat: explainers that are better than random in every comparison, `partly` in
    some, `by_metric` on every model by that metric; compared: all that were. best: the best of `beat` by its mean rank over
    metrics and models, and level: those that no comparison tells apart from it. needed: the samples from which on a comparison
    can be significant at all, 0 if there are enough. control: one that never looks at the model and is better than most
    explainers by every metric on every model.
    """

    n: int
    counts: str
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


def verdict(run: RunRecord, rows: Sequence[Row]) -> Verdict:
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
        n=run.units,
        counts=run.unit,
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


def _best(
    run: RunRecord, rows: Sequence[Row], metrics: Sequence[str], beat: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The best of these by mean rank over metrics and models, and those of them that no comparison tells apart from it."""
    if not beat:
        return "", ()
    ranks: dict[str, list[float]] = {label: [] for label in beat}
    for metric, model in product(metrics, run.models):
        chosen = [r for r in analysis.scored(rows, model, metric) if r.label in ranks]
        sign = -1 if chosen and chosen[0].cells[metric].higher_is_better else 1
        places = rankdata([sign * r.cells[metric].summary.mean for r in chosen])
        for row, place in zip(chosen, places, strict=True):
            ranks[row.label].append(float(place))
    best = min(beat, key=lambda label: float(np.mean(ranks[label])))
    different = {
        label
        for metric, model in product(metrics, run.models)
        for label, test in analysis.against(run, model, metric, best, libraries_only=True).items()
        if test.verdict in ("better", "worse")
    }
    return best, tuple(x for x in beat if x != best and x not in different)


def _needed(run: RunRecord, metrics: Sequence[str]) -> int:
    """How many samples the comparisons with random need before any of them can be significant; 0 if there are enough."""
    least = 0
    for metric, model in product(metrics, run.models):
        tests = analysis.against(run, model, metric, RANDOM)
        if analysis.least_p(tests) >= ALPHA:
            needed = next((k for k in range(2, 40) if analysis.smallest_p(k, len(tests)) < ALPHA), 0)
            least = max(least, needed)
        elif tests:
            return 0
    return least


def _control(run: RunRecord, metrics: Sequence[str]) -> str:
    """A control that is better than more than half of the explainers in every comparison; "" if there is none."""
    strongest, share = "", 0.5
    for control in run.simple_controls:
        shares = [
            sum(t.verdict == "worse" for t in tests.values()) / len(tests)
            for metric, model in product(metrics, run.models)
            if (tests := analysis.against(run, model, metric, control, libraries_only=True))
        ]
        if min(shares, default=0.0) > share:
            strongest, share = control, min(shares)
    return strongest


def facts(run: RunRecord, rows: Sequence[Row]) -> list[Fact]:
    """What happened in the run."""
    collected: list[Fact] = []
    if run.stopped:
        collected.append(Stopped(models=run.models, done=run.stopped, lacking=run.lacking))
    if not any(r.status == "ok" for r in rows):
        collected.append(NoMaps(models=run.models))
    if run.manifest.get("check", "on") == "off":
        collected.append(Unchecked(models=run.models))
    how = {e.keep_maps for e in run.explanations if e.status == "ok"} - {"all"}
    if how or run.drawn:
        kept = run.n if run.kept is None else len(run.kept)
        collected.append(SomeMaps(run.models, min(how, default="all"), kept, run.n, run.drawn))
    collected += [*_failed(run, [r for r in rows if r.status == "failed"]), *_unsupported(run, rows)]
    # What raised is a failure, and says so above.
    raised = {f.get("metric") for f in run.manifest.get("failures", [])}
    valued = {m for r in rows for m, cell in r.cells.items() if cell.summary.n}
    empty = tuple(m for m in run.metrics if m not in valued | raised)
    if empty:
        collected.append(NoValue(models=run.models, metrics=empty))
    if notes_of_run := _notes(run):
        collected.append(Notes(models=run.models, notes=notes_of_run))
    return collected


def _failed(run: RunRecord, rows: Sequence[Row]) -> list[Failed]:
    scores = [f for f in run.manifest.get("failures", []) if f.get("metric")]
    if not rows and not scores:
        return []
    lost = {str(m["name"]): str(m["failed"]) for m in run.manifest.get("models", []) if m.get("failed")}
    reasons = _reasons([r for r in rows if r.model not in lost])
    reasons += [Reason(f["reason"], (f["explainer"],), (f["model"],), f["metric"]) for f in scores]
    return [Failed(models=run.models, lost=lost, count=len(rows) + len(scores), reasons=tuple(reasons))]


def _unsupported(run: RunRecord, rows: Sequence[Row]) -> list[Unsupported]:
    missing, metrics = [r for r in rows if r.status not in ("ok", "failed")], _refused_metrics(run)
    if not missing and not metrics:
        return []
    reasons, labels = (*_reasons(missing), *metrics), {r.label for r in missing}
    return [Unsupported(models=run.models, explainers=len(labels), metrics=len(metrics), reasons=reasons)]


def _together(sayings: Iterable[tuple[Any, str, str]]) -> list[tuple[Any, tuple[str, ...], tuple[str, ...]]]:
    """(saying, labels, models): of (saying, label, model), each once, with labels of the same models together."""
    speakers: dict[Any, dict[str, list[str]]] = {}
    for saying, label, model in sayings:
        speakers.setdefault(saying, {}).setdefault(label, []).append(model)
    groups: dict[Any, list[str]] = {}
    for saying, labels in speakers.items():
        for label, models in labels.items():
            groups.setdefault((saying, tuple(models)), []).append(label)
    return [(saying, tuple(labels), models) for (saying, models), labels in groups.items()]


def _reasons(rows: Iterable[Row]) -> list[Reason]:
    """Each reason once, with the explainers and the models that it is of."""
    return [Reason(*about) for about in _together((r.reason, r.label, r.model) for r in rows)]


def _refused_metrics(run: RunRecord) -> list[Reason]:
    """Metrics that do not support a map, one reason for all explainers and models of a metric: the first one's."""
    metrics: dict[str, tuple[list[str], list[str], str]] = {}
    for entry in run.manifest.get("models", []):
        for key, reason in entry.get("refused", {}).items():
            label = max((x for x in run.labels if key.endswith(f" of {x}")), key=len, default="")
            metric = key.removesuffix(f" of {label}") if label else key
            if label.startswith(f"{CONTROLS}."):  # which nobody expects to add up
                continue
            labels, models, _ = metrics.setdefault(metric, ([], [], reason))
            labels += [label] if label and label not in labels else []
            models += [entry["name"]] if entry.get("name") not in models else []
    return [Reason(why, tuple(labels), tuple(models), metric) for metric, (labels, models, why) in metrics.items()]


def _notes(run: RunRecord) -> tuple[Note, ...]:
    """The notes of explainers, each once with who says it."""
    explanations = [e for e in run.explanations if ok(e) and not is_control(e)]
    sayings = ((tuple(note.items()), e.label, e.model) for e in explanations for note in notes(e))
    return tuple(Note(labels, models, **dict(note)) for note, labels, models in _together(sayings))


def notes(explanation: Result) -> list[dict[str, Any]]:
    """An explanation's own notes, and those that its extras amount to, as fields of `Note`."""
    listed: list[dict[str, Any]] = [{"text": note.rstrip(".")} for note in explanation.attribution.notes]
    for name, values in explanation.attribution.extras.items():
        rows = [bool(np.any(value)) for value in values] if name.startswith((UNREACHED, ZERO)) else []
        if any(rows):
            modality = name.removeprefix(UNREACHED) if name.startswith(UNREACHED) else ""
            kind = "unreached" if modality else "zero_gradient"
            listed.append({"kind": kind, "modality": modality, "samples": sum(rows), "n": len(rows)})
    return [note for i, note in enumerate(listed) if note not in listed[:i]]
