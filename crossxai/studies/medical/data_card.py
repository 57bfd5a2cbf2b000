"""The data card: one self-contained page that says what the three medical sets are, and what they are not.

With it, the figures of the classification's table: histograms, violins and statistics per class, correlations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from crossxai import __version__
from crossxai.errors import InvalidInput
from crossxai.files.atomic import write_text
from crossxai.report.html import environment
from crossxai.report.plots.style import INK, SOFT, dress, png_uri
from crossxai.studies.medical import ct, exploratory, mri
from crossxai.studies.medical.ct import COLUMNS, Feature
from crossxai.studies.medical.drawing import TASKS
from crossxai.studies.medical.exploratory import CLASSES, COLOURS, needs
from crossxai.studies.medical.samples import MedicalSet

DPI = 110


def write_card(sets: Mapping[str, MedicalSet], path: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Write the card of the three sets (task -> samples) as HTML; returns the path.

    settings: what `settings.json` says under "settings", for the seeds and for whether the signal was planted. Raises
    `InvalidInput` if a task is missing.
    """
    missing = [task for task in TASKS if task not in sets]
    if missing:
        raise InvalidInput(f"no {missing[0]} set was given; write the card of all three tasks: {', '.join(TASKS)}")
    context = {
        "version": __version__,
        "settings": dict(settings or {}),
        "planted": bool((settings or {}).get("planted", True)),
        "sets": sets,
        "statistics": statistics(sets["classification"]),
        "columns": COLUMNS,
        "facts": _facts(sets),
        "figures": {name: png_uri(figure, DPI) for name, figure in figures(sets).items()},
        "ct": ct,
        "mri": mri,
    }
    write_text(path, environment(True).get_template("data_card.html.j2").render(context))
    return path


def figures(sets: Mapping[str, MedicalSet]) -> dict[str, Figure]:
    """Every figure of the card by name."""
    table, score, segmentation = (sets[task] for task in TASKS)
    return {
        "cls_montage": exploratory.montage(table),
        "cls_histograms": histograms(table),
        "cls_violins": violins(table),
        "cls_correlations": correlations(table),
        "reg_montage": exploratory.montage(score, 6),
        "reg_scores": exploratory.scores(score),
        "reg_intensity": exploratory.intensity(score),
        "seg_montage": exploratory.montage(segmentation, 6),
        "seg_compartments": exploratory.compartments(segmentation),
        "seg_profile": exploratory.profile(segmentation),
        "seg_areas": exploratory.areas(segmentation),
    }


def _facts(sets: Mapping[str, MedicalSet]) -> list[tuple[str, str]]:
    """(number, what it is), for the head of the page."""
    table, score, segmentation = (sets[task] for task in TASKS)
    areas = segmentation.masks["tumour"].sum(axis=(1, 2))
    size = next(iter(score.inputs.values())).shape[1]
    return [
        (str(sum(len(s) for s in sets.values())), "samples in three sets, beside the explanation sets"),
        (f"{size} × {size}", "pixels, one channel, float32 in [0, 1]"),
        (f"{int((table.labels == 0).sum())} / {int((table.labels == 1).sum())}", "benign / malignant"),
        (f"{float(np.mean(score.labels)):.2f}", "mean score, of 0 to 10"),
        (f"{areas.mean():.0f}", "pixels of tumour on average"),
        ("0", "patients: everything is drawn by a program"),
    ]


@dataclass(frozen=True)
class Statistic:
    """One feature in one class: asked and found mean and standard deviation; z: how many standard errors the mean is off."""

    feature: str
    label: str
    n: int
    mean_asked: float
    mean: float
    sd_asked: float
    sd: float

    @property
    def z(self) -> float:
        return (self.mean - self.mean_asked) / (self.sd_asked / math.sqrt(self.n))


def statistics(shown: MedicalSet) -> list[Statistic]:
    """Every feature in every class that has samples."""
    needs(shown, "classification")
    rows = []
    for k, column in enumerate(COLUMNS):
        for label, name in enumerate(CLASSES):
            values = shown.inputs["table"][shown.labels == label, k].astype(np.float64)
            if len(values):
                sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                wanted = column.moments[label][0]
                rows.append(
                    Statistic(column.name, name, len(values), wanted, float(values.mean()), column.sd(label), sd)
                )
    return rows


def class_statistics(shown: MedicalSet) -> Figure:
    """n, mean and sd, asked and found, as a table."""
    lines = statistics(shown)
    text = [
        [
            s.feature,
            s.label,
            str(s.n),
            f"{s.mean_asked:.2f}",
            f"{s.mean:.2f}",
            f"{s.sd_asked:.2f}",
            f"{s.sd:.2f}",
            f"{s.z:+.1f}",
        ]
        for s in lines
    ]
    heads = ["feature", "class", "n", "mean asked", "mean found", "sd asked", "sd found", "mean off by (s.e.)"]
    figure = Figure(figsize=(9.2, 0.25 * (len(text) + 1) + 0.2))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.axis("off")
    widths = [0.18, 0.11, 0.07, 0.12, 0.12, 0.11, 0.11, 0.18]
    drawn = axes.table(text, colLabels=heads, colWidths=widths, bbox=Bbox.unit(), cellLoc="right")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_linewidth(0)
        cell.set_text_props(color=INK, weight="bold" if row == 0 else "normal", ha="left" if column < 2 else "right")
        if row and (row - 1) // 2 % 2 == 0:
            cell.set_facecolor("#f3f5f8")
    return figure


def histograms(shown: MedicalSet) -> Figure:
    """Each feature's distribution, one colour per class."""
    figure, panels = _twelve(shown)
    for k, (axes, column) in enumerate(zip(panels, COLUMNS, strict=True)):
        values = shown.inputs["table"][:, k]
        if column.kind == "bernoulli":
            for label in (0, 1):
                share = values[shown.labels == label].mean() if (shown.labels == label).any() else 0.0
                axes.bar(
                    np.arange(2) + (label - 0.5) * 0.36,
                    [1 - share, share],
                    0.34,
                    color=COLOURS[label],
                    label=CLASSES[label],
                )
            axes.set_xticks([0, 1], _words(column))
            dress(axes, "", "share", column.name)
            axes.set_ylim(0, 1)
            continue
        edges = np.linspace(values.min(), values.max() + 1e-6, 24)
        for label in (0, 1):
            kind = values[shown.labels == label]
            axes.hist(kind, edges, color=COLOURS[label], alpha=0.55, label=CLASSES[label])
        dress(axes, column.unit, "samples" if k % 4 == 0 else "", column.name)
    _legend(figure, panels[0])
    return figure


def violins(shown: MedicalSet) -> Figure:
    """Each feature's distribution per class with its median; shares for what is yes or no."""
    figure, panels = _twelve(shown)
    for k, (axes, column) in enumerate(zip(panels, COLUMNS, strict=True)):
        for label in (0, 1):
            kind = shown.inputs["table"][shown.labels == label, k].astype(np.float64)
            if column.kind == "bernoulli":
                share = kind.mean() if len(kind) else 0.0
                axes.bar(label, share, 0.5, color=COLOURS[label], alpha=0.8, label=CLASSES[label])
                axes.set_ylim(0, 1)
            elif len(kind) > 1:
                body = axes.violinplot(kind, [label], widths=0.8, showmedians=True, showextrema=False)
                for patch in body["bodies"]:
                    patch.set(facecolor=COLOURS[label], alpha=0.6, label=CLASSES[label])
                body["cmedians"].set(color=INK, linewidth=1.4)
        axes.set_xticks([0, 1], CLASSES)
        axes.set_xlim(-0.6, 1.6)
        label_y = f"share {_words(column)[1]}" if column.kind == "bernoulli" else column.unit
        dress(axes, "", label_y, column.name)
    return figure


def correlations(shown: MedicalSet) -> Figure:
    """Pearson correlations of features and label over all samples, and within each class."""
    needs(shown, "classification")
    names = [*(column.name for column in COLUMNS), "label"]
    values = np.column_stack([shown.inputs["table"].astype(np.float64), shown.labels])
    parts = [("all samples", values), *((f"{CLASSES[k]} only", values[shown.labels == k][:, :-1]) for k in (0, 1))]
    figure = Figure(figsize=(12.6, 5.4), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    for number, (axes, (title, part)) in enumerate(zip(panels, parts, strict=True)):
        here = names[: part.shape[1]]
        drawn = axes.imshow(_correlation(part), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_xticks(range(len(here)), here, rotation=90, fontsize=8.5)
        axes.set_yticks(range(len(here)), here if number == 0 else [""] * len(here), fontsize=8.5)
        axes.set_title(f"{title} (n = {len(part)})", fontsize=10, color=INK, loc="left")
    bar = figure.colorbar(drawn, ax=panels, shrink=0.8, pad=0.012)
    bar.set_label("Pearson correlation", fontsize=9, color=SOFT)
    return figure


def _correlation(values: Any) -> Any:
    """NaN, drawn white, where a column is constant or there are fewer than three samples."""
    if len(values) < 3:
        return np.full((values.shape[1],) * 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(values.T)


def _twelve(shown: MedicalSet) -> tuple[Figure, list[Any]]:
    needs(shown, "classification")
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    panels: Any = figure.subplots(3, 4)
    return figure, list(panels.ravel())


def _legend(figure: Figure, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9, frameon=False)


def _words(column: Feature) -> list[str]:
    """["no", "yes"] from "0 no, 1 yes"."""
    return [part.split(maxsplit=1)[1] for part in column.unit.split(", ")]
