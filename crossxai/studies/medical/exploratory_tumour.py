"""Figures of the segmentation set: the tumour's compartments, its profile from the centre outwards, its area."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from crossxai.studies.medical.exploratory import COLOURS, INK, TITLES, dress, needs
from crossxai.studies.medical.noise import UNIT
from crossxai.studies.medical.samples import MedicalSet
from crossxai.studies.medical.tumour import AREA

PARTS = ("core", "ring", "oedema", "normal")
REACH = 20
"""How far outside the tumour "normal" and the profile go, in pixels of a 224-pixel image."""


def compartments(shown: MedicalSet) -> Figure:
    """Each sample's mean intensity in core, ring, oedema, and normal tissue 4 to 20 pixels outside, in both sequences."""
    needs(shown, "segmentation")
    away = _signed_distance(shown)
    masks = {**shown.masks, "normal": (away > 4) & (away <= REACH)}
    figure = Figure(figsize=(6.6, 3.6), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, name, colour in zip(panels, ("flair", "t1ce"), COLOURS, strict=True):
        image = shown.inputs[name][..., 0]
        values = [(image * masks[p]).sum(axis=(1, 2)) / np.maximum(masks[p].sum(axis=(1, 2)), 1) for p in PARTS]
        axes.boxplot(
            values,
            widths=0.55,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.5},
            medianprops={"color": INK, "linewidth": 1.4},
            flierprops={"markersize": 2.5},
        )
        axes.set_xticks(range(1, 5), PARTS)
        axes.set_ylim(0, 1)
        dress(axes, "", "mean intensity" if name == "flair" else "", TITLES[name])
    return figure


def profile(shown: MedicalSet) -> Figure:
    """Mean intensity by distance from the tumour's edge, inside (negative) to outside; the band is one sd over samples."""
    needs(shown, "segmentation")
    away = _signed_distance(shown)
    edges = np.arange(-14, REACH + 1)
    figure = Figure(figsize=(6.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(("flair", "t1ce"), COLOURS, strict=True):
        rows = np.full((len(shown), len(edges) - 1), np.nan)
        for sample in range(len(shown)):
            image, place = shown.inputs[name][sample, ..., 0], away[sample]
            count, _ = np.histogram(place, edges)
            total, _ = np.histogram(place, edges, weights=image)
            rows[sample, count > 0] = total[count > 0] / count[count > 0]
        some = np.isfinite(rows).sum(axis=0) >= max(1, len(shown) // 10)  # few tumours are so wide that they have more
        x, known = (edges[:-1] + 0.5)[some], rows[:, some]
        mean, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.8, label=TITLES[name])
    axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.text(0.4, 0.985, "edge", fontsize=8, color=INK, va="top", transform=axes.get_xaxis_transform())
    axes.set_ylim(0, 1)
    dress(axes, "pixels from the tumour's edge (inside is negative)", "intensity")
    axes.legend(fontsize=9, frameon=False, loc="upper right")
    return figure


def areas(shown: MedicalSet) -> Figure:
    """Histogram of the whole tumour's area, with mean and sd asked and found; pixels of a 224-pixel image."""
    needs(shown, "segmentation")
    size = shown.masks["tumour"].shape[1]
    values = shown.masks["tumour"].sum(axis=(1, 2)) * (UNIT / size) ** 2
    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, np.linspace(0, max(1600.0, float(values.max())), 25).tolist(), color=COLOURS[0], alpha=0.6)
    axes.axvline(AREA[0], color=INK, linewidth=1.4, label=f"asked: mean {AREA[0]:.0f}, sd {AREA[1]:.0f}")
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    found = f"found: mean {values.mean():.0f}, sd {spread:.0f}"
    axes.axvline(float(values.mean()), color=COLOURS[1], linewidth=1.4, linestyle="dashed", label=found)
    dress(axes, "area of the whole tumour, pixels", "samples")
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def _signed_distance(shown: MedicalSet) -> Any:
    """(n, size, size): pixels (of a 224-pixel image) to the tumour's edge, negative inside."""
    unit = UNIT / shown.masks["tumour"].shape[1]
    return np.stack(
        [
            (distance_transform_edt(~mask) - distance_transform_edt(mask) + np.where(mask, 0.5, -0.5)) * unit
            for mask in shown.masks["tumour"]
        ]
    )
