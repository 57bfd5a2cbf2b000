"""The figures of a run: of one sample an overlay, the table's bars, two images together, a map taken apart; of all samples the
modalities' shares and a gallery. What does not apply to a run is left out: no figure is empty."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from crossxai import evaluation
from crossxai.errors import UnknownName
from crossxai.files import Predictions, Result
from crossxai.files.atomic import replacing
from crossxai.measures import predicted_region
from crossxai.model import Array
from crossxai.report import analysis, modalities
from crossxai.report.comparison import ordering
from crossxai.report.plots import decomposition, gallery, modality_shares, overlay, pair, table_bars
from crossxai.report.plots.grids import Panel, representative_samples
from crossxai.report.plots.maps import Mask, flat
from crossxai.report.plots.style import uri
from crossxai.report.run import RunRecord, is_control, ok

DPI = 130
PAGE_DPI = 100
BUDGET = 2_000_000  # characters of embedded figures
CONVENTIONS = {"mean": "mean per unit", "sum": "sum over units"}
GALLERIES = {
    "classification": "Four samples of each class",
    "regression": "Six samples from the lowest to the highest score",
    "detection": "Six samples",
    "segmentation": "Six lesions from the smallest to the largest",
}


@dataclass(frozen=True)
class RunFigure:
    """One figure of a run, what it shows in a sentence, and whether it is mostly photographs."""

    name: str
    title: str
    meaning: str
    figure: Figure
    photographic: bool = True


def write_figures(run: RunRecord, explainer: str | None = None, model: str | None = None) -> dict[str, Path]:
    """Write the figures of one explainer on one model as PNGs into the run's folder `figures`; name → path.

    explainer: its label, by default that of `choose_explainer`. model: by default the run's first with maps. Raises `UnknownName`
    for what is not there.
    """
    paths = {}
    for drawn in figures(run, explainer, model):
        path = run.directory / "figures" / f"{drawn.name}.png"
        with replacing(path) as temporary:
            drawn.figure.savefig(temporary, format="png", dpi=DPI, facecolor="white")
        paths[drawn.name] = path
    return paths


def embedded(run: RunRecord) -> list[dict[str, Any]]:
    """The same figures for a page, photographs as JPEG, the largest at the end left out if they exceed 2 MB together."""
    shown, spent = [], 0
    for image in map(_embed, figures(run)):
        if spent + len(image["uri"]) <= BUDGET:
            shown.append(image)
            spent += len(image["uri"])
    return shown


def figures(run: RunRecord, explainer: str | None = None, model: str | None = None) -> list[RunFigure]:
    """Every figure that applies to a run, for one explainer on one model."""
    if model is not None and model not in run.models:
        raise UnknownName("model of this run", model, run.models)
    models = [model] if model is not None else [m for m in run.models if any(ok(e) for e in run.of(m).values())]
    if not models:
        return []
    usable = {label: e for label, e in run.of(models[0]).items() if ok(e) and e.maps}
    if explainer is not None and explainer not in usable:
        raise UnknownName(f"explainer with maps on {models[0]}", explainer, usable)
    label = explainer or choose_explainer(run, models[0])
    drawn = _of_samples(run, usable[label]) if label else []
    table = next((t for t in modalities.tables(run) if t.model == models[0]), None)
    return drawn if table is None else [*drawn, *_modalities(table, label)]


def choose_explainer(run: RunRecord, model: str) -> str:
    """The explainer worth showing: the best by the pointing game, over all modalities it measures, else by what else locates,
    else by insertion, else the first one; it has maps of as many modalities as any. "" if no library gave a map."""
    usable = {x: e for x, e in run.of(model).items() if ok(e) and e.maps and not is_control(e) and ordering(e)}
    if not usable:
        return ""
    most = max(len(e.maps) for e in usable.values())
    usable = {x: e for x, e in usable.items() if len(e.maps) == most}
    rows = [r for r in analysis.table(run) if r.model == model and r.label in usable]
    axes = {e.name: getattr(e.metric, "axis", "") for e in evaluation.discover()}
    locating = sorted({kind for kind in run.kinds.values() if axes.get(kind) == "localisation"})
    for kind in ("pointing", *locating, "insertion"):
        means = {r.label: _mean(r, [m for m in run.metrics if run.kinds[m] == kind]) for r in rows}
        known = {label: mean for label, mean in means.items() if math.isfinite(mean)}
        if known:
            return max(known, key=lambda label: known[label])
    return next(iter(usable))


def _mean(row: analysis.Row, metrics: Sequence[str]) -> float:
    """The mean over the modalities that a metric measures, larger being better; NaN where one of them has no value."""
    cells = [row.cells.get(m) for m in metrics]
    if not cells or not all(cells):
        return math.nan
    return float(np.mean([c.summary.mean if c.higher_is_better else -c.summary.mean for c in cells if c]))


def _of_samples(run: RunRecord, explanation: Result) -> list[RunFigure]:
    data, drawn = run.samples, list[RunFigure]()
    task = str(getattr(data, "task", "classification"))
    images = [m for m in data.modalities if m.kind == "image" and m.name in explanation.maps]
    tables = [m for m in data.modalities if not m.spatial and m.name in explanation.maps]
    rows = _rows(run, task, explanation)
    if not rows:
        return []
    # The one shown alone is the last: of the highest class, score or area.
    i, explainer = rows[-1], f"{explanation.label} on {explanation.model}"
    about = f"{data.ids[i]}, {_describe_prediction(run, explanation.model, i, task)}"
    title = f"{explainer}\n{about}"
    for number, m in enumerate(images):
        relevance, image = explanation.maps[m.name][i], data.inputs[m.name][i]
        suffix = "" if len(images) == 1 else f"_{m.name}"
        given: dict[str, Any] = {"truth": _truth(run, m.name, i), "title": title, "limit": m.range}
        if len(images) == 1:
            figure = overlay(image, relevance, name=m.name, **given)
            drawn.append(RunFigure("overlay", "Overlay", f"One sample and its map by {explainer}.", figure))
        if _two_signs(flat(relevance, image)) and number == 0:
            parts = decomposition(image, relevance, **given)
            meaning = f"What speaks for the score and what against it, and both: {m.name} of one sample."
            drawn.append(RunFigure(f"parts{suffix}", "Positive and negative parts", meaning, parts))
    if len(images) > 1:
        both = _panel(run, explanation, i, task, [m.name for m in images])
        figure = pair(both.images, both.maps, both.truth, title, {m.name: m.range for m in images})
        meaning = f"One sample and its maps by {explainer}, on one scale."
        drawn.insert(0, RunFigure("pair", "Both images", meaning, figure))
    for m in tables:
        values, inputs = (x[m.name][i].astype(np.float64) for x in (explanation.maps, data.inputs))
        bars = table_bars(values, m.features, inputs, title)
        drawn.append(RunFigure(m.name, "Features", f"What each column of {m.name} adds, of one sample.", bars, False))
    if images:
        panels = [_panel(run, explanation, j, task, [m.name for m in images]) for j in rows]
        figure = gallery(panels, explainer, {m.name: m.range for m in images})
        meaning = f"{GALLERIES.get(task, 'Some samples')}, with maps by {explainer}, on one scale."
        drawn.append(RunFigure("gallery", "Gallery", meaning, figure))
    return drawn


def _rows(run: RunRecord, task: str, explanation: Result) -> list[int]:
    """The gallery's samples, of those whose maps are no degenerate ones."""
    kinds = explanation.degenerate or ("",) * run.n
    fine = np.flatnonzero([kind not in ("nan", "zero") for kind in kinds])
    labels = np.asarray(run.samples.labels, dtype=np.float64)[fine]
    sizes = None
    if task == "segmentation":
        regions = [_whole(run, i) for i in fine.tolist()]
        sizes = np.array([0.0 if region is None else float(region.sum()) for region in regions])
    return [int(fine[i]) for i in representative_samples(task, labels, sizes)] if len(fine) else []


def _panel(run: RunRecord, explanation: Result, i: int, task: str, names: Sequence[str]) -> Panel:
    truth = {name: t for name in names if (t := _truth(run, name, i)) is not None}
    predictions = run.predictions.get(explanation.model)
    predicted = _region(predictions, i) if task == "segmentation" else None
    return Panel(
        f"{run.samples.ids[i]}\n{_describe_prediction(run, explanation.model, i, task)}",
        {name: run.samples.inputs[name][i] for name in names},
        {name: explanation.maps[name][i] for name in names},
        truth,
        predicted,
        _whole(run, i) if predicted is not None else None,
    )


def _describe_prediction(run: RunRecord, model: str, i: int, task: str) -> str:
    """The truth of a sample and the model's prediction, in a few words."""
    data, predictions = run.samples, run.predictions.get(model)
    outputs = None if predictions is None else np.asarray(predictions.outputs[i])
    if task == "regression":
        text = f"score {float(data.labels[i]):.1f}"
        return text if outputs is None or outputs.size != 1 else f"{text}, predicted {float(outputs.ravel()[0]):.1f}"
    if task == "segmentation":
        predicted, region = _region(predictions, i), _whole(run, i)
        if predicted is None or region is None or predicted.shape != region.shape:
            return "" if region is None else f"{int(region.sum())} px"
        total = int(predicted.sum()) + int(region.sum())
        overlap = f", Dice {2 * int((predicted & region).sum()) / total:.2f}" if total else ""
        return f"{int(region.sum())} px{overlap}"
    label = int(data.labels[i])
    name = data.classes[label] if 0 <= label < len(data.classes) else str(label)
    if outputs is None or outputs.ndim != 1 or outputs.size != len(data.classes) or outputs.size < 2:
        return name
    guess = int(np.argmax(outputs))
    return f"{name}, {'recognised' if guess == label else f'taken for {data.classes[guess]}'}"


def _region(predictions: Predictions | None, i: int) -> Mask | None:
    """The predicted region of a segmentation: of its one class, or of all but the first; None where its threshold is unknown."""
    if predictions is None or predictions.outputs.ndim != 4:
        return None
    kind, single = str(predictions.info.get("outputs", "logits")), predictions.outputs.shape[-1] == 1
    if single and kind == "unknown":
        return None
    first = predicted_region(predictions.outputs, 0, kind)
    return np.asarray((first if single else ~first)[i])


def _whole(run: RunRecord, i: int) -> Mask | None:
    """The true region: the mask called tumour, else the first, as `Samples` has it."""
    masks = run.samples.masks
    name = "tumour" if "tumour" in masks else next(iter(masks), "")
    return masks[name][i] if name else None


def _truth(run: RunRecord, name: str, i: int) -> Mask | None:
    return run.samples.truth[name][i] if name in run.samples.truth else None


def _two_signs(relevance: Array) -> bool:
    """Whether both signs carry at least 1% of the map."""
    positive, negative = (float(np.maximum(part, 0).sum()) for part in (relevance, -relevance))
    return min(positive, negative) > 0.01 * (positive + negative)


def _modalities(table: modalities.Table, label: str) -> list[RunFigure]:
    row = next((r for r in table.rows if r.label == label), None)
    conventions = dict(row.answers) if row is not None else {}
    both = [s.per_sample for s in conventions.values()]
    if len(both) == 2 and np.allclose(both[0], both[1], equal_nan=True):
        conventions = {"mean or sum": next(iter(conventions.values()))}  # of equally many units they agree
    if table.ablation is not None:
        conventions["ablation of the model"] = table.ablation
    shares_by = {CONVENTIONS.get(of, of): answer.shares for of, answer in conventions.items()}
    shares_by = {of: s for of, s in shares_by.items() if all(np.isfinite(x.mean) for x in s.values())}
    if not shares_by:
        return []
    title = f"Share of attribution by modality, {label + ', ' if label else ''}{table.model}"
    meaning = (
        "What one explainer’s maps give each modality, and what the model loses when a whole modality is replaced."
    )
    return [RunFigure("modalities", "Modalities", meaning, modality_shares(shares_by, title), False)]


def _embed(drawn: RunFigure) -> dict[str, Any]:
    """A figure as the page holds it: a data URI, its size in pixels, and what it shows."""
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format="png", dpi=PAGE_DPI, facecolor="white")
    with Image.open(buffer) as picture:
        width, height = picture.size
        if drawn.photographic:
            smaller = io.BytesIO()
            picture.convert("RGB").save(smaller, "JPEG", quality=86, optimize=True)
            kind, data = "image/jpeg", smaller.getvalue()
        else:
            kind, data = "image/png", buffer.getvalue()
    return {"title": drawn.title, "meaning": drawn.meaning, "uri": uri(data, kind), "width": width, "height": height}
