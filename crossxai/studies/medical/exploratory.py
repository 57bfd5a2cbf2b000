"""What the three medical data sets look like: montages and what every exploratory figure shares.

Every function takes a `MedicalSet` and returns a matplotlib `Figure`; none touches pyplot. The figures of one task each are in
`exploratory_table` (classification), `exploratory_score` (regression) and `exploratory_tumour` (segmentation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossxai.errors import InvalidInput
from crossxai.studies.medical.samples import MedicalSet

CLASSES = ("benign", "malignant")
COLOURS = ("#0072B2", "#D55E00")
"""Okabe and Ito's blue and vermilion, as everywhere in reports: benign and malignant, or the first and the second image."""
TITLES = {"ct": "CT", "t1": "T1", "t2": "T2", "flair": "FLAIR", "t1ce": "T1ce"}
INK, SOFT = "#16202c", "#4a5563"


def montage(shown: MedicalSet, n: int = 8) -> Figure:
    """Up to n samples: each image, and below it the same with its truth outlined; columns go from low to high.

    Classification: benign ones first; regression: by score; segmentation: by the tumour's area.
    """
    rows = _spread(shown, n)
    images = [name for name in shown.inputs if name in TITLES]
    figure = Figure(figsize=(1.55 * len(rows) + 0.75, 2.98 * len(images) + 0.35), layout="constrained")
    panels = figure.subplots(2 * len(images), len(rows), squeeze=False)
    for k, name in enumerate(images):
        for column, row in enumerate(rows):
            for line in (2 * k, 2 * k + 1):
                axes = panels[line][column]
                drawn = axes.imshow(
                    shown.inputs[name][row, ..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest"
                )
                bare(axes)
            panels[2 * k + 1][column].contour(shown.truth[name][row], [0.5], colors="#39d6ff", linewidths=0.9)
            if k == 0:
                panels[0][column].set_title(_caption(shown, row), fontsize=8.5, color=INK)
        panels[2 * k][0].set_ylabel(TITLES[name], fontsize=10, color=INK)
        panels[2 * k + 1][0].set_ylabel(f"{TITLES[name]}, truth", fontsize=10, color=INK)
    bar = figure.colorbar(drawn, ax=panels, shrink=0.5, pad=0.012, aspect=30)
    bar.set_label("intensity, as the network gets it", fontsize=8.5, color=SOFT)
    bar.ax.tick_params(labelsize=8)
    return figure


def _spread(shown: MedicalSet, n: int) -> list[int]:
    """Rows to show, in order, from the lowest to the highest."""
    if n < 1:
        raise InvalidInput(f"n is {n}; write at least 1")
    if shown.task == "classification":
        per_class = max(1, n // 2)
        return [int(row) for label in (0, 1) for row in np.flatnonzero(shown.labels == label)[:per_class]]
    value = shown.labels if shown.task == "regression" else shown.masks["tumour"].sum(axis=(1, 2))
    order = np.argsort(value, kind="stable")
    return [
        int(row) for row in order[np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int))]
    ]


def _caption(shown: MedicalSet, row: int) -> str:
    if shown.task == "classification":
        return CLASSES[int(shown.labels[row])]
    if shown.task == "regression":
        return f"score {shown.labels[row]:.1f}"
    return f"{int(shown.masks['tumour'][row].sum())} pixels"


def bare(axes: Any) -> None:
    """No ticks and no frame, but room for a label."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def dress(axes: Any, x: str = "", y: str = "", title: str = "") -> None:
    """The look of every plot: light grid, no box, small labels."""
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)
    if title:
        axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=SOFT, length=3)
    axes.grid(axis="y", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9ca3af")


def needs(shown: MedicalSet, task: str) -> None:
    """Raise `InvalidInput` if the figure is of another task."""
    if shown.task != task:
        raise InvalidInput(f"this figure is of the {task} set; a {shown.task} set was given")
