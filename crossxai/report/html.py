"""The page and its Markdown twin: contents poured into templates, every text escaped, and the page's own panels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup, escape

from crossxai.errors import InvalidInput
from crossxai.evaluation import statistics
from crossxai.files import Result
from crossxai.files.atomic import write_text
from crossxai.report import certainty, front, modalities, run_figures, samples, score_files, scorecard, tables, words
from crossxai.report.analysis import Row, mean_curve
from crossxai.report.comparison import TOP_SHARE
from crossxai.report.computing import ReducedPrecision
from crossxai.report.contents import Contents
from crossxai.report.places import Place
from crossxai.report.plots import planes, style
from crossxai.report.run import CONTROLS, RANDOM, RunRecord

SMALLEST = 48  # mean maps are shown small, and need no more pixels
RESAMPLES = 500  # of the shaded intervals, which nobody reads to three digits
_CODE = re.compile(r"`([^`]+)`")


def write_page(contents: Contents) -> Path:
    """Write report.html and report.md in the run's directory; return the path of the page."""
    context = _context(contents)
    directory = contents.run.directory
    write_text(directory / "report.md", environment(False).get_template("report.md.j2").render(context))
    page = directory / "report.html"
    write_text(page, environment(True).get_template("report.html.j2").render(context, **_pictures(contents)))
    return page


def environment(escaped: bool) -> Environment:
    """The templates with the filters that write numbers and names; escaped: for HTML."""
    # Markdown is no HTML, but readers of Markdown pass HTML through: `text` below takes its teeth out.
    templates = words.environment("templates", autoescape=escaped)
    templates.filters |= {"code": _code, "text": _text, "sort": _sort_key, "breakable": _breakable}
    return templates


def _code(text: str) -> Markup:
    """Escaped text, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _breakable(label: str) -> Markup:
    """A label, escaped, that a narrow column may break after its dots, underscores and at signs."""
    return Markup(re.sub(r"([._@])", r"\1<wbr>", str(escape(label))))


def _text(value: Any) -> str:
    """One line that can start neither HTML nor a column in a Markdown table."""
    text = " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def _sort_key(value: float | None) -> str:
    """A number for the table's sorting; nothing if it is missing, which sorts last."""
    return repr(float(value)) if value is not None and math.isfinite(value) else ""


def _context(contents: Contents) -> dict[str, Any]:
    run, manifest = contents.run, contents.run.manifest
    return {
        "run": run,
        "manifest": manifest,
        "title": str(manifest.get("title") or "CrossXAI report"),
        "data": manifest.get("data") if isinstance(manifest.get("data"), dict) else {},
        "models": [_model(contents, name) for name in run.models],
        "findings": contents.findings,
        "conclusion": contents.verdict,
        "key_numbers": front.key_numbers(contents),
        "tables": tables.tables(tables.columns(contents)),
        "modality_tables": modalities.tables(run.mapped),
        "places": contents.places,
        "scorecards": scorecard.scorecards(run, contents.rows),
        "rows": contents.rows,
        "certainty": _certainty(contents),
        "evaluate": "crossxai evaluate FOLDER",
        "maps": contents.maps,
        "meanings": tables.meanings(run),
        "chosen": manifest.get("chosen") if isinstance(manifest.get("chosen"), dict) else {},
        "settings": _settings(manifest.get("settings", {})),
        "score_files": score_files.written(run.directory),
        "verdict": tables.verdict,
    }


def _settings(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, value) lines, in its own order."""
    if not isinstance(tree, Mapping):
        return [(prefix, words.value(tree))]
    lines: list[tuple[str, str]] = []
    for key, item in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping) and item:
            lines += _settings(item, name)
        elif isinstance(item, list) and any(isinstance(part, Mapping) for part in item):
            lines += [(f"{name} {i}", words.value(part)) for i, part in enumerate(item, 1)]
        elif item not in (None, "", [], {}):
            lines.append((name, words.value(item)))
    return lines


def _certainty(contents: Contents) -> list[dict[str, Any]]:
    """Per metric, how sure its rankings are: sentences, and the rankings themselves."""
    of_metric = {m: [r for r in contents.rankings if r.metric == m] for m in certainty.metrics(contents.run)}
    return [
        {"metric": words.metric(m), "sentences": certainty.sentences(contents.run, m, rankings), "rankings": rankings}
        for m, rankings in of_metric.items()
        if rankings
    ]


def _pictures(contents: Contents) -> dict[str, Any]:
    """What only the page has."""
    mapped = contents.run.mapped
    shown = samples.samples(mapped) if contents.run.kept is None or len(contents.run.kept) else []
    return {
        "forest": front.forest(contents),
        "strip": front.strip(contents, shown),
        "most_bars": front.MOST_BARS,
        "libraries": [x for x in dict.fromkeys(r.library for r in contents.rows) if x != CONTROLS],
        "curve_groups": _curve_groups(contents),
        "curveless": [words.metric(m) for m in contents.run.metrics if certainty.without_curve(contents.run, m)],
        "matrices": _matrices(contents),
        "mean_map": _mean_map,
        "run_figures": run_figures.embedded(mapped) if len(contents.run.samples.modalities) > 1 else [],
        "samples": shown,
        "centre": samples.centre(contents.run),
        "scale_signed": style.scale(True),
        "scale_positive": style.scale(False),
        "percentile": style.PERCENTILE,
        "most_slices": planes.MOST_SLICES,
        "bars": samples.BARS,
    }


def _model(contents: Contents, name: str) -> dict[str, Any]:
    """What the manifest says of one model, with the numbers of its metrics apart."""
    entry = contents.run.entry(name)
    metrics = entry.get("metrics") if isinstance(entry.get("metrics"), dict) else {}
    # Losses are for those who train; the number of samples says how far to trust the rest.
    numbers = [
        (words.FIGURES.get(k, k.replace("_", " ")), float(v))
        for k, v in (metrics or {}).items()
        if isinstance(v, int | float) and k not in ("loss", "n")
    ]
    tested = (metrics or {}).get("n")
    precision, compiled = entry.get("precision"), entry.get("compile")
    return {
        "name": name,
        "framework": contents.run.framework(name),
        "weights": str(entry.get("weights_sha256") or ""),
        "metrics": numbers,
        "recognised": [str(line) for line in entry.get("recognised") or ()],
        "random": bool(entry.get("random")),
        "precision": str(precision.get("precision", "")) if isinstance(precision, dict) else "",
        "effect": _effect(contents, name),
        "compiled": compiled if isinstance(compiled, dict) else {},
        "tested": f" on {tested} samples held out of its training" if numbers and isinstance(tested, int) else "",
        "rows": [r for r in contents.rows if r.model == name],
    }


def _effect(contents: Contents, name: str) -> str:
    """What the precision of a model did, in the words of the finding, without the model's name; "" where it was not reduced."""
    for finding in contents.findings:
        if isinstance(finding.facts, ReducedPrecision):
            own = zip(finding.facts.effects, finding.points, strict=True)
            return next((point.removeprefix(f"`{name}`: ") for effect, point in own if effect.model == name), "")
    return ""


def _curve_groups(contents: Contents) -> list[dict[str, Any]]:
    """Per metric with curves of a score: per model, one panel of curves per library, and the caption's words."""
    run, groups = contents.run, []
    for metric in (m for m in run.metrics if _over_units(run, m)):
        panels = {model: _panels(contents, metric, model, _limits(run, metric)) for model in run.models}
        models = [{"model": model, "panels": drawn} for model, drawn in panels.items() if drawn]
        if models:
            groups.append({"metric": metric, "models": models})
    return groups


def _over_units(run: RunRecord, metric: str) -> bool:
    """Whether a metric's curves are of a score as units change, and not of thresholds or layers."""
    settings = [e.scores[metric].params for e in run.explanations if metric in e.scores]
    return all(params.get("curve_over", "units") == "units" for params in settings)


def _limits(run: RunRecord, metric: str) -> tuple[float, float]:
    """The vertical axis of a metric's panels: from zero, unless the curves then huddle in a corner."""
    means = [c[1].mean(axis=0) for e in run.explanations if (c := mean_curve(e, metric)) is not None]
    low = min((float(m.min()) for m in means), default=0.0)
    high = max((float(m.max()) for m in means), default=1.0)
    pad = 0.08 * (high - low) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - pad), high + pad


def _panels(contents: Contents, metric: str, model: str, limits: tuple[float, float]) -> list[dict[str, Any]]:
    run = contents.run
    explanations = run.of(model)
    rows = {r.label: r for r in contents.rows if r.model == model}
    # Tables of curves, of many samples, are held one at a time.
    means = {x: (c[0], c[1].mean(axis=0)) for x, e in explanations.items() if (c := mean_curve(e, metric)) is not None}
    control = [_shaded(run, explanations[RANDOM], metric, style.CONTROL)] if RANDOM in means else []
    panels = []
    for library in dict.fromkeys(explanations[label].library for label in means):
        ranked = _by_area([x for x in means if explanations[x].library == library and x != RANDOM], rows, metric)
        if not ranked:
            continue
        faint = [x for x in means if explanations[x].library not in (library, CONTROLS)]
        lines = [_shaded(run, explanations[ranked[0]], metric, style.line_style(0))]
        lines += [style.Line(*means[x], style.line_style(i), [], []) for i, x in enumerate(ranked[1:], 1)]
        others = [style.Line(*means[x], (style.FAINT, "solid"), [], []) for x in faint]
        share = "pixels" if all(m.spatial for m in run.samples.modalities) else "units"
        done = {"deletion": "removed", "insertion": "put back"}.get(run.kinds[metric], "changed")
        title = "Controls" if library == CONTROLS else words.library(library)
        legend = [_legend(x, i, rows[x], metric) for i, x in enumerate(ranked)]
        areas = [f"{entry['label']} {entry['area']}" for entry in legend]
        panels.append(
            {
                "title": title,
                "image": style.curves(lines, control, others, f"{share} {done}", "mean score", limits),
                "alt": f"Mean {metric} curves of {title} on {model}; areas: {words.listing(areas)}.",
                "legend": legend,
            }
        )
    return panels


def _by_area(labels: Sequence[str], rows: dict[str, Row], metric: str) -> list[str]:
    """Best first; the legend reads in the order of the curves."""
    sign = -1 if any(rows[x].cells[metric].higher_is_better for x in labels) else 1
    means = {x: sign * rows[x].cells[metric].summary.mean for x in labels}
    return sorted(labels, key=lambda x: means[x] if math.isfinite(means[x]) else math.inf)


def _shaded(run: RunRecord, explanation: Result, metric: str, look: tuple[str, Any]) -> style.Line:
    """An explainer's mean curve with its interval."""
    curve, drawn = explanation.scores[metric].curve, mean_curve(explanation, metric)
    if curve is None or drawn is None:
        raise InvalidInput(f"{explanation.label} has no curve of {metric}")
    grid, curves = drawn
    # `mean_curve` leaves out samples whose curve is not finite.
    groups = None if run.groups is None else run.groups[np.isfinite(curve).all(axis=1)]
    low, high = statistics.bands(curves, groups=groups, resamples=RESAMPLES)
    return style.Line(grid, curves.mean(axis=0), look, low.tolist(), high.tolist())


def _legend(label: str, number: int, row: Row, metric: str) -> dict[str, str]:
    shade, dash = style.line_style(number)
    pattern = "" if dash == "solid" else " ".join(str(3 * part) for part in dash[1])
    mean = words.number(row.cells[metric].summary.mean)
    return {"label": label, "colour": shade, "dash": pattern, "area": mean}


MEANINGS = {
    "spearman": ("Spearman rank correlation", "1: same order of pixels, 0: unrelated orders, −1: reversed"),
    "cosine": ("Cosine similarity", "1: same direction, 0: unrelated, −1: opposite sign"),
    "top_k": (
        f"Overlap of the top {words.percent(TOP_SHARE)}",
        f"1: the same top pixels, 0: none in common; chance gives about {TOP_SHARE:g}",
    ),
}


def _matrices(contents: Contents) -> list[dict[str, Any]]:
    """Every measure; with two models one matrix holds both, one below and the other above the diagonal."""
    models = [m for m in contents.run.models if any(key[0] == m for key in contents.maps.index)]
    sides = [(models[0], models[1])] if len(models) == 2 else [(model, model) for model in models]
    return [_matrix(contents, measure, *side) for side in sides for measure in MEANINGS]


def _matrix(contents: Contents, measure: str, below: str, above: str) -> dict[str, Any]:
    """One measure between all explainers. reading: how its halves are to be read."""
    index, means = contents.maps.index, contents.maps.means[measure]
    labels = tuple(x for x in contents.run.labels if (below, x) in index or (above, x) in index)
    signed = measure != "top_k"
    low = -1.0 if signed else 0.0
    rows = []
    for i, one in enumerate(labels):
        row = []
        for j, two in enumerate(labels):
            # Below the diagonal both maps come from `below`, above it from `above`, on it one from each.
            a, b = (below if i >= j else above, one), (below if i > j else above, two)
            known = a in index and b in index and not (i == j and below == above)
            value = float(means[index[a], index[b]]) if known else math.nan
            models = below if i > j else above if i < j else f"{below} and {above}"
            row.append(_entry(value, low, signed, f"{one} and {two}, {models}", i == j))
        rows.append(row)
    title, meaning = MEANINGS[measure]
    reading = f"Mean over samples, maps of {below}." if len(contents.run.models) > 1 else "Mean over samples."
    if below != above:
        reading = f"Below the diagonal: {below}. Above it: {above}. On it: the same explainer, {below} against {above}."
    head = {"title": title, "meaning": meaning, "reading": reading, "low": words.number(low, 0), "high": "1"}
    return {**head, "labels": labels, "rows": rows, "scale": style.scale(signed)}


def _entry(value: float, low: float, signed: bool, where: str, diagonal: bool) -> dict[str, Any]:
    """One coloured cell of a matrix."""
    shade, text, title = "#f3f4f6", "", f"{where}: undefined"
    if math.isfinite(value):
        shade, text = style.colour(value, low, 1.0, signed), words.number(value, 2)
        text = text.replace("0.", ".", 1) if text.lstrip(words.MINUS).startswith("0.") else text
        title = f"{where}: {words.number(value, 3)}"
    light = float(np.dot((0.299, 0.587, 0.114), [int(shade[k : k + 2], 16) for k in (1, 3, 5)]))
    ink = "#6b7280" if not text else "#ffffff" if light < 140 else "#111827"
    return {"text": text, "background": shade, "ink": ink, "title": title, "diagonal": diagonal}


def _mean_map(place: Place) -> str:
    """A mean map as a picture of at most about SMALLEST pixels a side, by averaging."""
    step = max(1, min(place.mean.shape) // SMALLEST)
    height, width = (side // step * step for side in place.mean.shape)
    small = place.mean[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    return style.heat(small, *style.limits(small, False), False)
