"""One sample's map of a volume as a figure: a slice of each plane, and maximum projections."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossxai.model import Array, Modality, value_range
from crossxai.report.plots import maps, planes, style

EDGES = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.96), (0.5, 0.04))
"""Where the letters of the sides stand: left, right, top, bottom."""


def plot_volume(values: Array, image: Array | None, modality: Modality, title: str = "", space: Any = None) -> Figure:
    """The map of one sample, (z, y, x) or (z, y, x, channels), over its image (z, y, x, channels): slices through the value
    farthest from zero, and projections, all on one scale. space: where voxels lie, by which planes are named and turned."""
    whole = np.asarray(values.sum(axis=-1) if values.ndim == 4 else values, np.float64)
    whole = np.broadcast_to(whole, whole.shape if image is None else image.shape[:3])
    farthest = np.zeros(whole.shape, bool)
    farthest[np.unravel_index(int(np.nan_to_num(np.abs(whole)).argmax()), whole.shape)] = True
    cut = planes.cut_of(modality, whole.shape, space, farthest)
    signed = style.is_signed(whole)
    low, high = style.limits(whole, signed)
    figure = Figure(figsize=(3 * maps.WIDTH + 0.9, 2 * maps.WIDTH + 0.6), layout=style.layout())
    grid = figure.subplots(2, 3)
    shown = [*planes.through(whole, cut), *planes.maxima(whole, cut)]
    if image is not None:
        grey = np.asarray(image.mean(axis=-1), np.float64)
        dark, bright = value_range(modality, grey)
        below = [*planes.through(grey, cut), *planes.maxima(grey, cut)]
        for axes, (under, plane) in zip(grid.flat, below, strict=True):
            axes.imshow(under, cmap="gray", vmin=dark, vmax=bright, aspect=_aspect(plane), interpolation="nearest")
    for place, (axes, (one, plane)) in enumerate(zip(grid.flat, shown, strict=True)):
        axes.set_facecolor(maps.BACKGROUND if image is None and signed else "white")
        colours = style.see_through(signed)
        axes.imshow(one, cmap=colours, vmin=low, vmax=high, aspect=_aspect(plane), interpolation="nearest")
        style.bare(axes)
        if place < 3:
            style.heading(axes, plane.title(cut.point[plane.axis], cut.shape[plane.axis]))
        else:
            style.heading(axes, f"{plane.name} maximum projection" if plane.sides else f"maximum along {plane.name}")
        for side, at in zip(plane.sides, EDGES, strict=False):
            axes.text(*at, side, transform=axes.transAxes, fontsize=8, color=maps.TRUTH, ha="center", va="center")
    if not np.isfinite(whole).any() or not np.any(whole):
        maps.write_on(grid[0, 0], "the map is zero" if np.isfinite(whole).any() else "the map is not finite")
    maps.bar(figure, list(grid.flat), high, low=low, colours=style.see_through(signed))
    style.caption(figure, title)
    return figure


def _aspect(plane: planes.Plane) -> float:
    return plane.pixel[0] / plane.pixel[1]
