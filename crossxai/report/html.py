"""The page and its Markdown twin: contents poured into templates, every text escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from crossxai.files.atomic import write_text
from crossxai.report import (
    certainty,
    front,
    modalities,
    panels,
    run_figures,
    samples,
    scorecard,
    tables,
    words,
)
from crossxai.report.contents import Contents
from crossxai.report.plots import pictures, style
from crossxai.report.run import CONTROLS

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
        "modality_tables": modalities.tables(run),
        "places": contents.places,
        "scorecards": scorecard.scorecards(run, contents.rows),
        "rows": contents.rows,
        "certainty": _certainty(contents),
        "evaluate": "crossxai evaluate FOLDER",
        "maps": contents.maps,
        "meanings": tables.meanings(run),
        "settings": _settings(manifest.get("settings", {})),
        "mark": tables.mark,
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
    groups = []
    for metric in certainty.metrics(contents.run):
        rankings = [r for r in contents.rankings if r.metric == metric]
        if rankings:
            sentences = certainty.sentences(contents.run, metric, rankings)
            groups.append({"metric": words.metric(metric), "sentences": sentences, "rankings": rankings})
    return groups


def _pictures(contents: Contents) -> dict[str, Any]:
    """What only the page has."""
    shown = samples.samples(contents.run)
    return {
        "forest": front.forest(contents),
        "strip": front.strip(contents, shown),
        "most_bars": front.MOST_BARS,
        "libraries": [x for x in dict.fromkeys(r.library for r in contents.rows) if x != CONTROLS],
        "curve_groups": panels.curve_groups(contents),
        "curveless": [
            words.metric(m) for m in contents.run.metrics if certainty.without_curve(contents.run.explanations, m)
        ],
        "matrices": panels.matrices(contents),
        "mean_map": panels.mean_map,
        "run_figures": run_figures.embedded(contents.run) if len(contents.run.samples.modalities) > 1 else [],
        "samples": shown,
        "centre": samples.centre(contents.run),
        "scale_signed": pictures.scale(True),
        "scale_positive": pictures.scale(False),
        "percentile": style.PERCENTILE,
        "bars": samples.BARS,
    }


def _model(contents: Contents, name: str) -> dict[str, Any]:
    """What the manifest says of one model, with the numbers of its metrics apart."""
    entries = [m for m in contents.run.manifest.get("models", []) if m.get("name") == name]
    entry = entries[0] if entries else {}
    metrics = entry.get("metrics") if isinstance(entry.get("metrics"), dict) else {}
    # Losses are for those who train; the number of samples says how far to trust the rest.
    numbers = [
        (words.FIGURES.get(k, k.replace("_", " ")), float(v))
        for k, v in (metrics or {}).items()
        if isinstance(v, int | float) and k not in ("loss", "n")
    ]
    tested = (metrics or {}).get("n")
    return {
        "name": name,
        "framework": contents.run.framework(name),
        "weights": str(entry.get("weights_sha256") or ""),
        "metrics": numbers,
        "tested": f" on {tested} samples" if numbers and isinstance(tested, int) else "",
        "rows": [r for r in contents.rows if r.model == name],
    }
