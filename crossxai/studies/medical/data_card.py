"""The data card: one self-contained page that says what the three medical sets are, and what they are not."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossxai import __version__
from crossxai.errors import InvalidInput
from crossxai.files.atomic import write_text
from crossxai.report.html import environment
from crossxai.report.plots.pictures import uri
from crossxai.studies.medical import ct, exploratory, exploratory_table, mri
from crossxai.studies.medical.samples import TASKS, MedicalSet
from crossxai.studies.medical.table import COLUMNS

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
        "statistics": exploratory_table.statistics(sets["classification"]),
        "columns": COLUMNS,
        "facts": _facts(sets),
        "figures": {name: _picture(figure) for name, figure in figures(sets).items()},
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
        "cls_histograms": exploratory_table.histograms(table),
        "cls_violins": exploratory_table.violins(table),
        "cls_correlations": exploratory_table.correlations(table),
        "reg_montage": exploratory.montage(score, 6),
        "reg_scores": exploratory.scores(score),
        "reg_intensity": exploratory.intensity(score),
        "seg_montage": exploratory.montage(segmentation, 6),
        "seg_compartments": exploratory.compartments(segmentation),
        "seg_profile": exploratory.profile(segmentation),
        "seg_areas": exploratory.areas(segmentation),
    }


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return uri(buffer.getvalue(), "image/png")


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
