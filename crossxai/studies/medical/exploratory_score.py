"""Figures of the regression set: the score's distribution, and what a lesion's intensity tells of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import beta

from crossxai.studies.medical.exploratory import COLOURS, INK, TITLES, dress, needs
from crossxai.studies.medical.samples import MedicalSet


def scores(shown: MedicalSet) -> Figure:
    """Histogram of the scores with the density that they are drawn from, 10 × Beta(2, 5)."""
    needs(shown, "regression")
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(
        shown.labels,
        np.linspace(0, 10, 26).tolist(),
        density=True,
        color=COLOURS[0],
        alpha=0.55,
        label=f"{len(shown)} samples",
    )
    x = np.linspace(0, 10, 201)
    axes.plot(x, beta.pdf(x / 10, 2, 5) / 10, color=INK, linewidth=1.6, label="10 × Beta(2, 5)")
    found = float(np.mean(shown.labels)), float(np.std(shown.labels, ddof=1)) if len(shown) > 1 else 0.0
    asked = 10 * beta.mean(2, 5), 10 * beta.std(2, 5)
    dress(axes, "score", "density", f"mean {found[0]:.2f}, sd {found[1]:.2f} (asked: {asked[0]:.2f}, {asked[1]:.2f})")
    axes.set_xlim(0, 10)
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def intensity(shown: MedicalSet) -> Figure:
    """Each sample's mean intensity in the lesion, and the lesion's area, against its score; r is Pearson's."""
    needs(shown, "regression")
    figure = Figure(figsize=(10.5, 3.5), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    areas = {}
    for axes, name, colour in zip(panels, ("t1", "t2"), COLOURS, strict=False):
        mask = shown.truth[name]
        areas[name] = mask.sum(axis=(1, 2))
        means = (shown.inputs[name][..., 0] * mask).sum(axis=(1, 2)) / areas[name]
        axes.scatter(shown.labels, means, s=12, color=colour, alpha=0.6, linewidths=0)
        dress(axes, "score", "mean intensity in the lesion", f"{TITLES[name]}: r = {_r(shown.labels, means)}")
        axes.set_xlim(0, 10)
    panels[2].scatter(shown.labels, areas["t1"], s=12, color=INK, alpha=0.5, linewidths=0)
    dress(panels[2], "score", "pixels", "area of the lesion")
    panels[2].set_xlim(0, 10)
    return figure


def _r(a: Any, b: Any) -> str:
    if len(a) < 3 or not (np.std(a) and np.std(b)):
        return "not defined"
    return f"{np.corrcoef(a, b)[0, 1]:.2f}".replace("-", "−")
