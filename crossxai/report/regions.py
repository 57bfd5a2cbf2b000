"""Where relevance goes: the finding for metrics that are shares of a region, and what the region is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossxai.report import words
from crossxai.report.analysis import Row, scored
from crossxai.report.run import Run
from crossxai.report.wording import Finding, by_models, code, names, per_model, sentence, tally, together


def where_it_goes(run: Run, rows: Sequence[Row], metric: str) -> list[Finding]:
    """Whether positive relevance goes to a region more than the region's size explains."""
    more: dict[str, list[str]] = {}
    less: dict[str, list[str]] = {}
    counts, areas, highest = {}, [], {}
    for model in run.models:
        chosen = [r for r in scored(rows, model, metric) if r.cells[metric].against_area is not None]
        if not chosen:
            continue
        chosen.sort(key=lambda r: -r.cells[metric].summary.mean)
        verdicts = {r.label: t.verdict for r in chosen if (t := r.cells[metric].against_area)}
        more[model] = [x for x, v in verdicts.items() if v == "better"]
        less[model] = [x for x, v in verdicts.items() if v == "worse"]
        counts[model] = tally(len(more[model]), len(chosen))
        areas.append(max((r.cells[metric] for r in chosen), key=lambda c: c.summary.n).area)
        top = chosen[0]
        cell = top.cells[metric]
        between = words.interval(cell.summary.low * 100, cell.summary.high * 100, 0)
        highest[model] = (
            f"Highest{{where}}: {code(top.label)}, {words.percent(cell.summary.mean)}"
            + (f" (95% interval {between})" if between else "")
            + (f", {words.number(cell.summary.mean / cell.area, 1)} times the share of the area" if cell.area else "")
            + (f", {words.p_value(cell.against_area.p_holm)}" if cell.against_area else "")
            + (f", over {cell.summary.n} of {words.count(run.n, 'sample')}." if cell.summary.n_missing else ".")
        )
    if not counts:
        return []
    name = region(run, metric)
    points = together(highest, run.models)
    for where, labels in by_models(more, run.models):
        points.append(f"More than its area{where}: {names(labels)}.")
    for where, labels in by_models(less, run.models):
        points.append(f"Less than its area{where}: {names(labels)}.")
    said = per_model(counts, run.models, than_area(run.kinds[metric]))
    headline = f"{sentence(name)} ({words.percent(areas[0])} of the area): {said}."
    return [Finding("Where relevance goes", headline, tuple(points), 55)]


def region(run: Run, metric: str) -> str:
    """What a share metric's region is called: `the centre 32 × 32 pixels`, `the stain mask`."""
    params = {**_settings(run, metric), **_params(run, metric)}
    only = _only(run, params.get("labels"))
    if "size" in params:
        return f"the centre {params['size']} × {params['size']} pixels{only}"
    if params.get("mask") == "truth":
        data = run.manifest.get("data")
        what = "planted signal" if isinstance(data, Mapping) and data.get("structure") else "truth"
        return f"the {what} of {run.modality(metric) or run.samples.modalities[0].name}"
    masks = list(run.samples.masks)
    mask = str(params.get("mask") or (masks[0] if len(masks) == 1 else ""))
    if not mask:
        return f"the region of {metric}"
    return f"the {mask} mask{only}"


def _only(run: Run, labels: Any) -> str:
    """Of which classes' samples a metric speaks, if not of all."""
    classes = run.samples.classes
    chosen = [x for x in labels if isinstance(x, int)] if isinstance(labels, list) else []
    only = [classes[x] if 0 <= x < len(classes) else str(x) for x in chosen]
    return f" of {words.listing(only)} samples" if only else ""


def than_area(metric: str) -> str:
    """What it means to score more than the region's area: ` put significantly more positive relevance …`."""
    if metric == "pointing":
        return " have their most relevant unit there significantly more often than its area alone gives"
    return " put significantly more positive relevance there than its area alone gives"


def _params(run: Run, metric: str) -> Mapping[str, Any]:
    return next((e.scores[metric].params for e in run.explanations if metric in e.scores), {})


def _settings(run: Run, metric: str) -> Mapping[str, Any]:
    """The metric's parameters in the experiment, which name the mask that the scores themselves only hold as numbers."""
    settings = run.manifest.get("settings")
    listed = settings.get("metrics") if isinstance(settings, Mapping) else None
    for entry in listed if isinstance(listed, list) else []:
        if (
            isinstance(entry, Mapping)
            and (entry.get("label") or entry.get("name")) == metric
            and isinstance(entry.get("params"), Mapping)
        ):
            return dict(entry["params"])
    return {}
