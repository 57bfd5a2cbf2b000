"""A gallery: some samples of a run side by side, their inputs, what was predicted, and one explainer's maps on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.report import overlays
from crossxai.report.overlays import Mask

CELL = 1.55  # inches
LINE = 0.9
EACH = 4  # of each class
SIX = 6


@dataclass(frozen=True)
class Panel:
    """One column: a heading of some lines, images and maps by modality, the truth, and a predicted region if there is one."""

    heading: str
    images: Mapping[str, Array]
    maps: Mapping[str, Array]
    truth: Mapping[str, Mask] = field(default_factory=dict)
    predicted: Mask | None = None
    region: Mask | None = None


def gallery(
    panels: Sequence[Panel], title: str = "", limit: Mapping[str, tuple[float, float] | None] | None = None
) -> Figure:
    """One column per sample: each input, for segmentation the predicted against the true region, each map; one scale for all."""
    if not panels:
        raise InvalidInput("a gallery needs at least one sample")
    images = list(panels[0].images)
    mapped = [name for name in images if name in panels[0].maps]
    if not mapped:
        raise InvalidInput("a gallery shows maps of images, and there is none")
    regions = any(p.predicted is not None for p in panels)
    rows = [*images, *(["prediction"] if regions else []), *(f"map of {name}" for name in mapped)]
    top = overlays.scale_of([overlays.flat(p.maps[name], p.images[name]) for p in panels for name in mapped])
    figure = Figure(figsize=(CELL * len(panels) + 1.2, CELL * len(rows) + 1.15), layout=overlays.layout())
    grid = figure.subplots(len(rows), len(panels), squeeze=False)
    ends = limit or {}
    for column, panel in enumerate(panels):
        drawn = iter(grid[:, column])
        for name in images:
            overlays.show(axes := next(drawn), panel.images[name], ends.get(name))
            overlays.outline(axes, panel.truth.get(name), width=LINE)
        if regions:
            overlays.show(axes := next(drawn), panel.images[images[0]], ends.get(images[0]))
            overlays.outline(axes, panel.region, width=LINE)
            overlays.outline(axes, panel.predicted, overlays.PREDICTED, LINE, dashed=True)
        for name in mapped:
            overlays.lay_over(axes := next(drawn), panel.images[name], panel.maps[name], top, ends.get(name))
            overlays.outline(axes, panel.truth.get(name), width=LINE)
        overlays.heading(grid[0, column], panel.heading, 8.5)
    for axes, name in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=9, color=overlays.INK)
    overlays.bar(figure, list(grid[-len(mapped) :].ravel()), top, "attribution", aspect=18 * len(mapped), pad=0.01)
    lines = []
    if any(m.any() for p in panels for m in p.truth.values()):
        lines.append("turquoise line: the planted truth")
    if regions:
        lines.append("dashed yellow line: the predicted region")
    overlays.caption(figure, title, lines)
    return figure


def chosen(task: str, labels: Array, sizes: Array | None = None) -> list[int]:
    """Rows of samples to show: of classes the first four each, of scores six from the lowest to the highest, of lesions six from
    the smallest to the largest (sizes: their areas); all of them where there are fewer."""
    if task == "classification":
        return [int(i) for label in np.unique(labels) for i in np.flatnonzero(labels == label)[:EACH]]
    by = labels if task == "regression" or sizes is None else sizes
    order = np.argsort(by, kind="stable")
    places = np.unique(np.rint(np.linspace(0, len(order) - 1, min(SIX, len(order)))).astype(int))
    return [int(i) for i in order[places]]
