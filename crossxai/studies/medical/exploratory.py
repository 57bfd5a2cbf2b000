"""Figures of the medical images: montages, the score and its lesions, the tumour's parts, and galleries of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt
from scipy.stats import beta

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput
from crossxai.report.plots.grids import Panel, gallery, representative_samples
from crossxai.report.plots.maps import Mask
from crossxai.report.plots.style import INK, SOFT, bare, dress
from crossxai.studies.medical.drawing import UNIT
from crossxai.studies.medical.mri import TUMOUR_AREA
from crossxai.studies.medical.samples import MedicalSet

CLASSES = ("benign", "malignant")
COLOURS = ("#0072B2", "#D55E00")
"""Okabe and Ito's blue and vermilion, as everywhere in reports: benign and malignant, or the first and the second image."""
TITLES = {"ct": "CT", "t1": "T1", "t2": "T2", "flair": "FLAIR", "t1ce": "T1ce"}


def montage(shown: MedicalSet, n: int = 8) -> Figure:
    """Up to n samples: each image, and below it the same with its truth outlined; columns go from low to high.

    Classification: benign ones first; regression: by score; segmentation: by the tumour's area.
    """
    rows = _spread(shown, n)
    images = [name for name in shown.inputs if name in TITLES]
    figure = Figure(figsize=(1.55 * len(rows) + 0.75, 2.98 * len(images) + 0.35), layout="constrained")
    grid = figure.subplots(2 * len(images), len(rows), squeeze=False)
    for k, name in enumerate(images):
        for row, plain, outlined in zip(rows, grid[2 * k], grid[2 * k + 1], strict=True):
            for axes in (plain, outlined):
                image = shown.inputs[name][row, ..., 0]
                drawn = axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                bare(axes)
            outlined.contour(shown.truth[name][row], [0.5], colors="#39d6ff", linewidths=0.9)
            if k == 0:
                plain.set_title(_caption(shown, row), fontsize=8.5, color=INK)
        grid[2 * k][0].set_ylabel(TITLES[name], fontsize=10, color=INK)
        grid[2 * k + 1][0].set_ylabel(f"{TITLES[name]}, truth", fontsize=10, color=INK)
    bar = figure.colorbar(drawn, ax=grid, shrink=0.5, pad=0.012, aspect=30)
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
    places = np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int))
    return [int(row) for row in order[places]]


def _caption(shown: MedicalSet, row: int) -> str:
    if shown.task == "classification":
        return CLASSES[int(shown.labels[row])]
    if shown.task == "regression":
        return f"score {shown.labels[row]:.1f}"
    return f"{int(shown.masks['tumour'][row].sum())} pixels"


def needs(shown: MedicalSet, task: str) -> None:
    """Raise `InvalidInput` if the figure is of another task."""
    if shown.task != task:
        raise InvalidInput(f"this figure is of the {task} set; a {shown.task} set was given")


def panels(
    shown: MedicalSet, task: str, size: tuple[float, float], rows: int = 1, columns: int = 1, sharey: bool = False
) -> tuple[Figure, Any]:
    """A figure of this task's set and its axes; raises `InvalidInput` if the set is of another."""
    needs(shown, task)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, sharey=sharey)


def scores(shown: MedicalSet) -> Figure:
    """Histogram of the scores with the density that they are drawn from, 10 × Beta(2, 5)."""
    figure, axes = panels(shown, "regression", (6.2, 3.4))
    edges = np.linspace(0, 10, 26).tolist()
    axes.hist(shown.labels, edges, density=True, color=COLOURS[0], alpha=0.55, label=f"{len(shown)} samples")
    x = np.linspace(0, 10, 201)
    axes.plot(x, beta.pdf(x / 10, 2, 5) / 10, color=INK, linewidth=1.6, label="10 × Beta(2, 5)")
    spread = float(np.std(shown.labels, ddof=1)) if len(shown) > 1 else 0.0
    expected = f"expected: {10 * beta.mean(2, 5):.2f}, {10 * beta.std(2, 5):.2f}"
    dress(axes, "score", "density", f"mean {np.mean(shown.labels):.2f}, sd {spread:.2f} ({expected})")
    axes.set_xlim(0, 10)
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def intensity(shown: MedicalSet) -> Figure:
    """Each sample's mean intensity in the lesion, and the lesion's area, against its score; r is Pearson's."""
    figure, (*pair, last) = panels(shown, "regression", (10.5, 3.5), 1, 3)
    for axes, name, colour in zip(pair, ("t1", "t2"), COLOURS, strict=True):
        means = _mean_inside(shown.inputs[name], shown.truth[name])
        axes.scatter(shown.labels, means, s=12, color=colour, alpha=0.6, linewidths=0)
        dress(axes, "score", "mean intensity in the lesion", f"{TITLES[name]}: r = {_r(shown.labels, means)}")
        axes.set_xlim(0, 10)
    last.scatter(shown.labels, shown.truth["t1"].sum(axis=(1, 2)), s=12, color=INK, alpha=0.5, linewidths=0)
    dress(last, "score", "pixels", "area of the lesion")
    last.set_xlim(0, 10)
    return figure


def _mean_inside(images: Any, masks: Any) -> Any:
    """(n,): each image's mean in its mask, 0 where that is empty."""
    return (images[..., 0] * masks).sum(axis=(1, 2)) / np.maximum(masks.sum(axis=(1, 2)), 1)


def _r(a: Any, b: Any) -> str:
    if len(a) < 3 or not (np.std(a) and np.std(b)):
        return "not defined"
    return f"{np.corrcoef(a, b)[0, 1]:.2f}".replace("-", "−")


PARTS = ("core", "ring", "oedema", "normal")
REACH = 20
"""How far outside the tumour "normal" and the profile go, in pixels of a 224-pixel image."""


def compartments(shown: MedicalSet) -> Figure:
    """Each sample's mean intensity in core, ring, oedema, and normal tissue 4 to 20 pixels outside, in both sequences."""
    figure, pair = panels(shown, "segmentation", (6.6, 3.6), 1, 2, sharey=True)
    away = _signed_distance(shown)
    masks = {**shown.masks, "normal": (away > 4) & (away <= REACH)}
    for axes, name, colour in zip(pair, ("flair", "t1ce"), COLOURS, strict=True):
        values = [_mean_inside(shown.inputs[name], masks[part]) for part in PARTS]
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
    figure, axes = panels(shown, "segmentation", (6.6, 3.6))
    away, edges = _signed_distance(shown), np.arange(-14, REACH + 1)
    for name, colour in zip(("flair", "t1ce"), COLOURS, strict=True):
        rows = np.full((len(shown), len(edges) - 1), np.nan)
        for sample in range(len(shown)):
            count, _ = np.histogram(away[sample], edges)
            total, _ = np.histogram(away[sample], edges, weights=shown.inputs[name][sample, ..., 0])
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
    """Histogram of the whole tumour's area in pixels of a 224-pixel image, with mean and sd, expected and drawn."""
    figure, axes = panels(shown, "segmentation", (6.2, 3.4))
    values = shown.masks["tumour"].sum(axis=(1, 2)) * (UNIT / shown.masks["tumour"].shape[1]) ** 2
    mean, sd, *_ = TUMOUR_AREA
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    axes.hist(values, np.linspace(0, max(1600.0, float(values.max())), 25).tolist(), color=COLOURS[0], alpha=0.6)
    axes.axvline(mean, color=INK, linewidth=1.4, label=f"expected: mean {mean:.0f}, sd {sd:.0f}")
    drawn = f"drawn: mean {values.mean():.0f}, sd {spread:.0f}"
    axes.axvline(float(values.mean()), color=COLOURS[1], linewidth=1.4, linestyle="dashed", label=drawn)
    dress(axes, "area of the whole tumour, pixels", "samples")
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def _signed_distance(shown: MedicalSet) -> Any:
    """(n, size, size): pixels (of a 224-pixel image) to the tumour's edge, negative inside."""
    distances = [
        distance_transform_edt(~mask) - distance_transform_edt(mask) + np.where(mask, 0.5, -0.5)
        for mask in shown.masks["tumour"]
    ]
    return np.stack(distances) * (UNIT / shown.masks["tumour"].shape[1])


def set_gallery(
    shown: MedicalSet,
    attribution: Attribution,
    captions: Sequence[str] | None = None,
    predicted: Mask | None = None,
    title: str = "",
) -> Figure:
    """The gallery of a medical set: maps of all its samples, and which of them are shown as `representative_samples` says.

    captions: a line about each sample, such as the prediction. predicted: (n, y, x), the regions that the model predicts.
    """
    if attribution.ids != shown.ids:
        raise InvalidInput(f"maps of {len(attribution)} samples, {shown.task} set of {len(shown)}: ask about its ids")
    mapped = {m.name: values for m, values in zip(attribution.modalities, attribution.values, strict=True)}
    images = [name for name in shown.inputs if name in shown.truth]
    tumours = shown.masks.get("tumour")
    sizes = None if tumours is None else tumours.sum(axis=(1, 2))
    panels = [
        Panel(
            shown.ids[i] if captions is None else f"{shown.ids[i]}\n{captions[i]}",
            {name: shown.inputs[name][i] for name in images},
            {name: mapped[name][i] for name in images if name in mapped},
            {name: shown.truth[name][i] for name in images},
            None if predicted is None else predicted[i],
            None if predicted is None or tumours is None else tumours[i],
        )
        for i in representative_samples(shown.task, shown.labels, sizes)
    ]
    return gallery(panels, title, dict.fromkeys(images, (0.0, 1.0)))
