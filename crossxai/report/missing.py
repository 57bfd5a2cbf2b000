"""What a run could not answer: explainers that refused, metrics that could not judge, metrics without any value."""

from __future__ import annotations

from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.analysis import Row
from crossxai.report.run import CONTROLS, Run
from crossxai.report.wording import Finding, code, names, on


def unsupported(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """Explainers and metrics that could not answer, and those that failed, with their reasons."""
    judges = _refused_metrics(run)
    missing = [r for r in rows if r.status not in ("ok", "failed")]
    found = _failed(run, [r for r in rows if r.status == "failed"])
    text = f"{words.count(len(judges), 'metric')} could not judge every map."
    if missing:
        labels = {r.label for r in missing}
        text = f"{words.count(len(labels), 'explainer')} could not answer on at least one model."
    if missing or judges:
        found.append(Finding("Unsupported", text, (*_reasons(run, missing), *judges), 25, "warning"))
    return found


def _failed(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """What raised, or a model that breaks what answers rely on: a mistake somewhere, and no property of a method."""
    judges = [f for f in run.manifest.get("failures", []) if f.get("metric")]
    if not rows and not judges:
        return []
    whole = {str(m["name"]): str(m["failed"]) for m in run.manifest.get("models", []) if m.get("failed")}
    points = [f"{model}: {reason}" for model, reason in whole.items()]
    points += _reasons(run, [r for r in rows if r.model not in whole])
    points += [
        f"{code(f['metric'])} of {code(f['explainer'])}{on([f['model']], run.models)}: {f['reason']}" for f in judges
    ]
    text = f"{words.listing(list(whole))} could not be explained at all."
    if not whole:
        text = (
            f"{words.count(len(rows) + len(judges), 'failure')} in this run: an error where a map or scores should be."
        )
    return [Finding("Failed", text, tuple(points), 96, "warning")]


def _reasons(run: Run, rows: Sequence[Row]) -> list[str]:
    """Each reason once, with the explainers and the models that it is of."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        reasons.setdefault(row.reason, {}).setdefault(row.label, []).append(row.model)
    points = []
    for reason, labels in reasons.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for label, models in labels.items():
            groups.setdefault(tuple(models), []).append(label)
        points += [f"{names(who, 6)}{on(models, run.models)}: {reason}" for models, who in groups.items()]
    return points


def _refused_metrics(run: Run) -> list[str]:
    """Metrics that could not judge, one line for all explainers and models of a metric, with the first one's reason."""
    found: dict[str, tuple[list[str], list[str], str]] = {}
    for entry in run.manifest.get("models", []):
        for key, reason in entry.get("refused", {}).items():
            label = max((x for x in run.labels if key.endswith(f" of {x}")), key=len, default="")
            metric = key.removesuffix(f" of {label}") if label else key
            if label.startswith(f"{CONTROLS}."):  # which nobody expects to add up
                continue
            labels, models, _ = found.setdefault(metric, ([], [], reason))
            labels += [label] if label and label not in labels else []
            models += [entry["name"]] if entry.get("name") not in models else []
    lines = []
    for metric, (labels, models, reason) in found.items():
        whose = f" of {names(labels)}" if labels else ""
        lines.append(f"the metric {code(metric)}{whose}{on(models, run.models)}: {reason}")
    return lines


def valueless(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """Metrics that have no value on any sample, such as one over masks of a class that the data lack."""
    cells = {m: [r.cells[m] for r in rows if m in r.cells] for m in run.metrics}
    empty = [m for m, found in cells.items() if not any(c.summary.n for c in found)]
    if not empty:
        return []
    text = f"No map has a value of {names(empty)}: {'it is' if len(empty) == 1 else 'they are'} defined for no sample."
    points = ("A metric over masks has no value where a sample's mask is empty or its class is not among `labels`.",)
    return [Finding("No value", text, points, 60, "warning")]
