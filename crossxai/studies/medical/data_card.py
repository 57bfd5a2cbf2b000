"""The data card, a page that says what the three medical sets are; with it, statistics and figures of the clinical table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crossxai import __version__
from crossxai.errors import InvalidInput
from crossxai.files.atomic import write_text
from crossxai.report.html import environment
from crossxai.report.plots.style import INK, SOFT, dress, png_uri
from crossxai.studies.medical import ct, exploratory, mri
from crossxai.studies.medical.ct import COLUMNS, Feature
from crossxai.studies.medical.drawing import TASKS
from crossxai.studies.medical.exploratory import CLASSES, COLOURS, needs, panels
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
        "statistics": class_statistics(sets["classification"]),
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


def class_statistics(shown: MedicalSet) -> pd.DataFrame:
    """Each feature in each class: mean and sd, expected and of the samples, and how many standard errors the mean is off."""
    needs(shown, "classification")
    rows = []
    for k, column in enumerate(COLUMNS):
        for label, name in enumerate(CLASSES):
            values = shown.inputs["table"][shown.labels == label, k].astype(np.float64)
            if not len(values):
                continue
            expected, mean, sd = column.moments[label][0], float(values.mean()), column.sd(label)
            rows.append(
                {
                    "feature": column.name,
                    "class": name,
                    "n": len(values),
                    "expected mean": expected,
                    "mean": mean,
                    "expected sd": sd,
                    "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                    "mean off by (s.e.)": (mean - expected) / (sd / np.sqrt(len(values))),
                }
            )
    return pd.DataFrame(rows)


def histograms(shown: MedicalSet) -> Figure:
    """Each feature's distribution, one colour per class; shares for what is yes or no."""
    figure, twelve = panels(shown, "classification", (12, 7.2), 3, 4)
    for k, (axes, column) in enumerate(zip(twelve.flat, COLUMNS, strict=True)):
        values = shown.inputs["table"][:, k]
        for label, name in enumerate(CLASSES):
            part = values[shown.labels == label]
            look = {"color": COLOURS[label], "label": name}
            if column.kind == "bernoulli":
                share = part.mean() if len(part) else 0.0
                axes.bar(np.arange(2) + (label - 0.5) * 0.36, [1 - share, share], 0.34, **look)
            else:
                axes.hist(part, np.linspace(values.min(), values.max() + 1e-6, 24), alpha=0.55, **look)
        if column.kind == "bernoulli":
            axes.set_xticks([0, 1], _words(column))
            dress(axes, "", "share", column.name)
            axes.set_ylim(0, 1)
        else:
            dress(axes, column.unit, "samples" if k % 4 == 0 else "", column.name)
    handles, labels = twelve.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return figure


def violins(shown: MedicalSet) -> Figure:
    """Each feature's distribution per class with its median; shares for what is yes or no."""
    figure, twelve = panels(shown, "classification", (12, 7.2), 3, 4)
    for k, (axes, column) in enumerate(zip(twelve.flat, COLUMNS, strict=True)):
        for label, colour in enumerate(COLOURS):
            part = shown.inputs["table"][shown.labels == label, k].astype(np.float64)
            if column.kind == "bernoulli":
                axes.bar(label, part.mean() if len(part) else 0.0, 0.5, color=colour, alpha=0.8)
                axes.set_ylim(0, 1)
            elif len(part) > 1:
                body = axes.violinplot(part, [label], widths=0.8, showmedians=True, showextrema=False)
                body["bodies"][0].set(facecolor=colour, alpha=0.6)
                body["cmedians"].set(color=INK, linewidth=1.4)
        axes.set_xticks([0, 1], CLASSES)
        axes.set_xlim(-0.6, 1.6)
        dress(axes, "", f"share {_words(column)[1]}" if column.kind == "bernoulli" else column.unit, column.name)
    return figure


def correlations(shown: MedicalSet) -> Figure:
    """Pearson correlations of features and label over all samples, and within each class."""
    figure, three = panels(shown, "classification", (12.6, 5.4), 1, 3)
    names = [*(column.name for column in COLUMNS), "label"]
    values = np.column_stack([shown.inputs["table"].astype(np.float64), shown.labels])
    parts = [("all samples", values), *((f"{CLASSES[k]} only", values[shown.labels == k][:, :-1]) for k in (0, 1))]
    for number, (axes, (title, part)) in enumerate(zip(three, parts, strict=True)):
        here = names[: part.shape[1]]
        drawn = axes.imshow(_correlation(part), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_xticks(range(len(here)), here, rotation=90, fontsize=8.5)
        axes.set_yticks(range(len(here)), here if number == 0 else [""] * len(here), fontsize=8.5)
        axes.set_title(f"{title} (n = {len(part)})", fontsize=10, color=INK, loc="left")
    bar = figure.colorbar(drawn, ax=three, shrink=0.8, pad=0.012)
    bar.set_label("Pearson correlation", fontsize=9, color=SOFT)
    return figure


def _correlation(values: Any) -> Any:
    """NaN, drawn white, where a column is constant or there are fewer than three samples."""
    if len(values) < 3:
        return np.full((values.shape[1],) * 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(values.T)


def _words(column: Feature) -> list[str]:
    """["no", "yes"] from "0 no, 1 yes"."""
    return [part.split(maxsplit=1)[1] for part in column.unit.split(", ")]
