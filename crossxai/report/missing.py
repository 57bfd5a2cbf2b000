"""What a run could not answer: explainers that refused, metrics that could not judge, metrics without any value."""

from __future__ import annotations

from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.analysis import Row
from crossxai.report.phrases import Finding, code, names, on
from crossxai.report.run import CONTROLS, Run


def unsupported(run: Run, rows: Sequence[Row]) -> list[Finding]:
    """Explainers and metrics that could not answer, with their reasons."""
    judges = _refused_metrics(run)
    missing = [r for r in rows if r.status != "ok"]
    if not missing:
        text = f"{words.count(len(judges), 'metric')} could not judge every map."
        return [Finding("Unsupported", text, tuple(judges), 25, "warning")] if judges else []
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in missing:
        reasons.setdefault((row.label, row.reason), []).append(row.model)
    points = [f"{code(label)}{on(models, run.models)}: {reason}" for (label, reason), models in reasons.items()]
    labels = {r.label for r in missing}
    text = f"{words.count(len(labels), 'explainer')} could not answer on at least one model."
    return [Finding("Unsupported", text, (*points, *judges), 25, "warning")]


def _refused_metrics(run: Run) -> list[str]:
    """Metrics that could not judge, one line for all explainers and models of a metric, with the first one's reason."""
    found: dict[str, tuple[list[str], list[str], str]] = {}
    for entry in run.manifest.get("models", []):
        for key, reason in entry.get("refused", {}).items():
            metric, _, label = key.rpartition(" of ") if key.rpartition(" of ")[2] in run.labels else (key, "", "")
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
