"""Many maps at once: a grid of explainers and samples, and a gallery of one explainer's maps beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.report.plots import maps as drawing
from crossxai.report.plots import style
from crossxai.report.plots.charts import feature_names
from crossxai.report.plots.maps import Mask

CELL = 1.55  # inches
LINE = 0.9
EACH = 4  # of each class
SIX = 6
MOST_NAMES = 12  # of columns, beside bars of one cell


def plot_grid(
    maps: Mapping[str, Array],
    images: Array | None = None,
    modality: Modality | None = None,
    *,
    titles: Sequence[str] = (),
    samples: Sequence[int] | None = None,
    truth: Mask | None = None,
    region: Mask | None = None,
    title: str = "",
) -> Figure:
    """Explainers' maps of the same samples: a row per explainer, a column per sample, the inputs in the first row.

    Parameters
    ----------
    maps
        Explainer to maps of all samples, (n, y, x), (n, y, x, channels) with the channels summed, or (n, features) of a table.
    images
        The samples' inputs in channels-last order, (n, y, x, 1) or (n, y, x, 3); of a table, (n, features), which are not drawn.
    modality
        Says the inputs' range and the names of a table's columns.
    titles
        A line or two about each sample, (n,).
    samples
        Which samples are drawn, by their place, in this order; by default the first six.
    truth
        The region of each sample that is known to matter, (n, y, x) of booleans, drawn as a turquoise line.
    region
        One region, (y, x) of booleans, drawn as a dashed line in every panel.
    title
        Above the grid.

    Returns
    -------
    Figure
        Each map lies over its input in the input's own colours, on a scale of its own, since explainers share no unit: blue to
        red for maps with both signs, else violet to yellow. A map that is zero or not finite says so.

    Raises
    ------
    InvalidInput
        Where maps, images and titles are not of the same number of samples, or there is nothing to draw.
    """
    sizes = {name: len(values) for name, values in maps.items()}
    sizes |= {} if images is None else {"images": len(images)}
    sizes |= {"titles": len(titles)} if titles else {}
    if not maps or not min(sizes.values(), default=0):
        raise InvalidInput("there is nothing to draw: give at least one explainer's maps of one sample")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{n} {name}" for name, n in sizes.items())
        raise InvalidInput(f"maps, images and titles must be of the same samples; got {listed}")
    n = next(iter(sizes.values()))
    shown = list(range(min(n, SIX))) if samples is None else list(samples)
    if not shown or not all(0 <= i < n for i in shown):
        raise InvalidInput(f"samples are places from 0 to {n - 1}, got {shown}")
    spatial = next(iter(maps.values())).ndim > 2
    pictures = images if spatial else None
    # An explainer has one kind of colours on all samples.
    signs = {name: style.is_signed(values[shown]) for name, values in maps.items()}
    names = [*(["input"] if pictures is not None else []), *maps]
    figure = Figure(figsize=(CELL * len(shown) + 1.9, CELL * len(names) + 0.9), layout=style.layout())
    grid = figure.subplots(len(names), len(shown), squeeze=False)
    for column, i in enumerate(shown):
        panels = iter(grid[:, column])
        if pictures is not None:
            axes = next(panels)
            axes.imshow(style.own_colours(pictures[i], modality), interpolation="nearest")
            style.bare(axes)
        for name, axes in zip(maps, panels, strict=True):
            if spatial:
                drawing.draw_map(axes, maps[name][i], None if images is None else images[i], modality, signs[name])
            else:
                _columns(axes, maps[name][i], modality, column == 0)
        for axes in grid[:, column] if spatial else ():
            drawing.outline(axes, region, drawing.PREDICTED, 1, dashed=True)
            drawing.outline(axes, None if truth is None else truth[i], width=LINE)
        style.heading(grid[0, column], titles[i] if titles else "", 8.5)
    for axes, name in zip(grid[:, 0], names, strict=True):
        # A name breaks after its library's dot and before its profile, so that a row's label stays narrow.
        label = name.replace(".", ".\n", 1).replace("@", "\n@")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8.5, color=style.INK)
    lines = ["each map on its own scale"]
    if modality is not None and len(modality.axes) == 4:
        lines.append(style.slice_shown(modality, next(iter(maps.values()))[shown[0]]))
    lines += ["red raises the explained score, blue lowers it"] if not spatial or any(signs.values()) else []
    lines += ["from violet, little, to yellow, much"] if spatial and not all(signs.values()) else []
    style.caption(figure, title, lines)
    return figure


def _columns(axes: Axes, values: Array, modality: Modality | None, named: bool) -> None:
    """A table's map as bars in the columns' own order, so that they compare along a row."""
    places = np.arange(len(values))
    axes.barh(places, values, color=[style.POSITIVE_INK if v >= 0 else style.NEGATIVE_INK for v in values], height=0.7)
    axes.axvline(0, color=style.SOFT, linewidth=0.8)
    axes.set_ylim(len(values) - 0.4, -0.6)
    style.bare(axes)
    if named and len(values) <= MOST_NAMES:
        axes.set_yticks(places, feature_names(modality, len(values)), fontsize=7.5, color=style.SOFT)
        axes.tick_params(axis="y", length=0)


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
    top = drawing.scale_of([drawing.flat(p.maps[name], p.images[name]) for p in panels for name in mapped])
    figure = Figure(figsize=(CELL * len(panels) + 1.2, CELL * len(rows) + 1.15), layout=style.layout())
    grid = figure.subplots(len(rows), len(panels), squeeze=False)
    ends = limit or {}
    for column, panel in enumerate(panels):
        drawn = iter(grid[:, column])
        for name in images:
            drawing.show(axes := next(drawn), panel.images[name], ends.get(name))
            drawing.outline(axes, panel.truth.get(name), width=LINE)
        if regions:
            drawing.show(axes := next(drawn), panel.images[images[0]], ends.get(images[0]))
            drawing.outline(axes, panel.region, width=LINE)
            drawing.outline(axes, panel.predicted, drawing.PREDICTED, LINE, dashed=True)
        for name in mapped:
            drawing.lay_over(axes := next(drawn), panel.images[name], panel.maps[name], top, ends.get(name))
            drawing.outline(axes, panel.truth.get(name), width=LINE)
        style.heading(grid[0, column], panel.heading, 8.5)
    for axes, name in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=9, color=style.INK)
    drawing.bar(figure, list(grid[-len(mapped) :].ravel()), top, aspect=18 * len(mapped), pad=0.01, shrink=1)
    lines = drawing.truth_line([mask for p in panels for mask in p.truth.values()])
    lines += ["dashed yellow line: the predicted region"] if regions else []
    style.caption(figure, title, lines)
    return figure


def representative_samples(task: str, labels: Array, sizes: Array | None = None) -> list[int]:
    """Rows of samples to show: of classes the first four each, of scores six from the lowest to the highest, of lesions six from
    the smallest to the largest (sizes: their areas); all of them where there are fewer."""
    if task == "classification":
        return [int(i) for label in np.unique(labels) for i in np.flatnonzero(labels == label)[:EACH]]
    by = labels if task == "regression" or sizes is None else sizes
    order = np.argsort(by, kind="stable")
    places = np.unique(np.rint(np.linspace(0, len(order) - 1, min(SIX, len(order)))).astype(int))
    return [int(i) for i in order[places]]
